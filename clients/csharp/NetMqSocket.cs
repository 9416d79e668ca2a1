// The connection of a HeliosClient over NetMQ (4.0.1 or newer).

using System;
using System.Collections.Generic;
using NetMQ;
using NetMQ.Sockets;

namespace Helios
{
    public sealed class NetMqSocket : IHeliosSocket
    {
        readonly DealerSocket socket = new DealerSocket();

        public NetMqSocket(string address, HeliosKeys keys = null)
        {
            socket.Options.Linger = TimeSpan.FromMilliseconds(200);
            socket.Options.ReconnectInterval = TimeSpan.FromMilliseconds(50);
            socket.Options.SendBuffer = 1 << 20;
            socket.Options.ReceiveBuffer = 1 << 20;
            if (keys != null)
            {
                socket.Options.CurveCertificate = new NetMQCertificate(keys.SecretKey, keys.PublicKey);
                socket.Options.CurveServerKey = keys.ServerKey;
            }
            socket.Connect(address);
        }

        public void Send(byte[] head, byte[] body)
        {
            socket.TrySendMultipartBytes(TimeSpan.Zero, head, body);
        }

        public List<byte[]> TryReceive(double seconds)
        {
            var parts = new List<byte[]>();
            return socket.TryReceiveMultipartBytes(TimeSpan.FromSeconds(seconds), ref parts, 2) ? parts : null;
        }

        public void Dispose()
        {
            socket.Dispose();
        }
    }
}

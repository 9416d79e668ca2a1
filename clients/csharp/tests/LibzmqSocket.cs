// The connection of a HeliosClient over the native libzmq: what the tests run with, where there is no NetMQ.

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;
using Helios;

public sealed class LibzmqSocket : IHeliosSocket
{
    const string Library = "libzmq.so.5";
    const int Dealer = 5, Linger = 17, ReconnectInterval = 18, ReceiveMore = 13, PublicKey = 48;
    const int SecretKey = 49, ServerKey = 50, DontWait = 1, SendMore = 2, PollIn = 1;
    const int MessageSize = 64;

    [StructLayout(LayoutKind.Sequential)]
    struct PollItem
    {
        public IntPtr Socket;
        public int Descriptor;
        public short Events, Found;
    }

    [DllImport(Library)] static extern IntPtr zmq_ctx_new();
    [DllImport(Library)] static extern IntPtr zmq_socket(IntPtr context, int type);
    [DllImport(Library)] static extern int zmq_setsockopt(IntPtr socket, int option, ref int value, IntPtr size);
    [DllImport(Library)] static extern int zmq_setsockopt(IntPtr socket, int option, byte[] value, IntPtr size);
    [DllImport(Library)] static extern int zmq_getsockopt(IntPtr socket, int option, out int value, ref IntPtr size);
    [DllImport(Library)] static extern int zmq_connect(IntPtr socket, byte[] address);
    [DllImport(Library)] static extern int zmq_close(IntPtr socket);
    [DllImport(Library)] static extern int zmq_send(IntPtr socket, byte[] bytes, IntPtr size, int flags);
    [DllImport(Library)] static extern int zmq_poll([In, Out] PollItem[] items, int count, IntPtr milliseconds);
    [DllImport(Library)] static extern int zmq_msg_init(IntPtr message);
    [DllImport(Library)] static extern int zmq_msg_recv(IntPtr message, IntPtr socket, int flags);
    [DllImport(Library)] static extern IntPtr zmq_msg_data(IntPtr message);
    [DllImport(Library)] static extern int zmq_msg_close(IntPtr message);

    static readonly IntPtr Context = zmq_ctx_new();

    readonly IntPtr socket;
    readonly IntPtr message = Marshal.AllocHGlobal(MessageSize);

    public LibzmqSocket(string address, HeliosKeys keys = null)
    {
        socket = zmq_socket(Context, Dealer);
        Set(Linger, 200);
        Set(ReconnectInterval, 50);
        if (keys != null)
        {
            Set(PublicKey, keys.PublicKey);
            Set(SecretKey, keys.SecretKey);
            Set(ServerKey, keys.ServerKey);
        }
        if (zmq_connect(socket, Encoding.ASCII.GetBytes(address + "\0")) != 0)
            throw new HeliosException($"cannot connect to {address}");
    }

    public void Send(byte[] head, byte[] body)
    {
        if (zmq_send(socket, head, (IntPtr)head.Length, DontWait | SendMore) >= 0)
            zmq_send(socket, body, (IntPtr)body.Length, DontWait);
    }

    public List<byte[]> TryReceive(double seconds)
    {
        var items = new[] { new PollItem { Socket = socket, Events = PollIn } };
        if (zmq_poll(items, 1, (IntPtr)Math.Ceiling(1e3 * seconds)) <= 0) return null;
        var parts = new List<byte[]>();
        do
        {
            zmq_msg_init(message);
            int size = zmq_msg_recv(message, socket, DontWait);
            if (size < 0) return null;
            var part = new byte[size];
            if (size > 0) Marshal.Copy(zmq_msg_data(message), part, 0, size);
            parts.Add(part);
            zmq_msg_close(message);
        }
        while (HasMore());
        return parts;
    }

    public void Dispose()
    {
        zmq_close(socket);
        Marshal.FreeHGlobal(message);
    }

    bool HasMore()
    {
        var size = (IntPtr)sizeof(int);
        zmq_getsockopt(socket, ReceiveMore, out int more, ref size);
        return more != 0;
    }

    void Set(int option, byte[] key)
    {
        zmq_setsockopt(socket, option, key, (IntPtr)key.Length);
    }

    void Set(int option, int value)
    {
        zmq_setsockopt(socket, option, ref value, (IntPtr)sizeof(int));
    }
}

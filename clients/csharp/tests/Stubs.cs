// The few names of NetMQ and Unity that NetMqSocket.cs and HeliosBehaviour.cs use, so that a compiler reads those files
// where neither is at hand. It finds typing errors of ours; it does not show that they run.

using System;
using System.Collections.Generic;

namespace NetMQ
{
    public class SocketOptions
    {
        public TimeSpan Linger { get; set; }
        public TimeSpan ReconnectInterval { get; set; }
        public int SendBuffer { get; set; }
        public int ReceiveBuffer { get; set; }
        public NetMQCertificate CurveCertificate { get; set; }
        public byte[] CurveServerKey { get; set; }
    }

    public class NetMQCertificate
    {
        public NetMQCertificate(byte[] secretKey, byte[] publicKey) { }
    }

    public interface IOutgoingSocket { }

    public interface IReceivingSocket { }

    public static class SocketExtensions
    {
        public static bool TrySendMultipartBytes(
            this IOutgoingSocket socket, TimeSpan timeout, params byte[][] frames) => false;

        public static bool TryReceiveMultipartBytes(
            this IReceivingSocket socket, TimeSpan timeout, ref List<byte[]> frames, int expected = 4) => false;
    }

    public static class NetMQConfig
    {
        public static void Cleanup(bool block = true) { }
    }
}

namespace NetMQ.Sockets
{
    public class DealerSocket : IOutgoingSocket, IReceivingSocket, IDisposable
    {
        public DealerSocket(string connectionString = null) { }

        public SocketOptions Options { get; } = new SocketOptions();

        public void Connect(string address) { }

        public void Dispose() { }
    }
}

namespace AsyncIO
{
    public static class ForceDotNet
    {
        public static void Force() { }
    }
}

namespace UnityEngine
{
    public class Object { }

    public class Component : Object
    {
        public T GetComponent<T>() where T : new() => new T();
    }

    public class MonoBehaviour : Component { }

    public class Renderer : Component
    {
        public Material material { get; set; } = new Material();
    }

    public class Material : Object
    {
        public Texture mainTexture { get; set; }
    }

    public class Texture : Object
    {
        public int width { get; set; }
        public int height { get; set; }
    }

    public enum TextureFormat { RGB24 }

    public class Texture2D : Texture
    {
        public Texture2D(int width, int height, TextureFormat format, bool mipChain) { }

        public void LoadRawTextureData(byte[] data) { }

        public void Apply(bool updateMipmaps) { }
    }

    public enum KeyCode { W, A, S, D, Space, LeftArrow, RightArrow }

    public static class Input
    {
        public static bool GetKey(KeyCode key) => false;
    }

    public static class Application
    {
        public static bool isFocused => true;
    }

    public static class Debug
    {
        public static void LogWarning(object message, Object context) { }
    }
}

// A world on a texture, in Unity: put it on an object with a Renderer. The connection lives on a thread of its own.

using System;
using System.Collections.Generic;
using System.Threading;
using NetMQ;
using UnityEngine;

namespace Helios
{
    public sealed class HeliosBehaviour : MonoBehaviour
    {
        [Serializable]
        public struct Binding
        {
            public KeyCode Key;
            public string Button;
        }

        public string Address = "tcp://127.0.0.1:5557";
        public string Scene = ""; // empty: the world's own choice
        public int Seed = 0;
        public Binding[] Bindings =
        {
            new Binding { Key = KeyCode.W, Button = "forward" },
            new Binding { Key = KeyCode.S, Button = "back" },
            new Binding { Key = KeyCode.A, Button = "strafe_left" },
            new Binding { Key = KeyCode.D, Button = "strafe_right" },
            new Binding { Key = KeyCode.LeftArrow, Button = "turn_left" },
            new Binding { Key = KeyCode.RightArrow, Button = "turn_right" },
            new Binding { Key = KeyCode.Space, Button = "attack" },
        };

        Thread thread;
        volatile bool stop;
        volatile string[] held = new string[0];
        string trouble; // this and the next are handed over by Interlocked.Exchange
        Frame newest; // an old one that was not drawn is dropped
        Texture2D texture;
        byte[] flipped;

        void OnEnable()
        {
            stop = false;
            thread = new Thread(Run) { IsBackground = true, Name = "Helios" };
            thread.Start();
        }

        void OnDisable()
        {
            stop = true;
            thread.Join(2000);
            NetMQConfig.Cleanup(false); // without it the editor hangs when play mode is left
        }

        void Update()
        {
            var pressed = new List<string>();
            foreach (Binding binding in Bindings)
                if (Application.isFocused && Input.GetKey(binding.Key)) pressed.Add(binding.Button);
            held = pressed.ToArray();
            string message = Interlocked.Exchange(ref trouble, null);
            if (message != null) Debug.LogWarning(message, this);
            Frame frame = Interlocked.Exchange(ref newest, null);
            if (frame != null) Show(frame);
        }

        void Show(Frame frame)
        {
            if (texture == null || texture.width != frame.Width || texture.height != frame.Height)
            {
                texture = new Texture2D(frame.Width, frame.Height, TextureFormat.RGB24, false);
                GetComponent<Renderer>().material.mainTexture = texture;
            }
            texture.LoadRawTextureData(Flip(frame));
            texture.Apply(false);
        }

        /// <summary>Rows from the bottom up, as textures have them.</summary>
        byte[] Flip(Frame frame)
        {
            int row = 3 * frame.Width;
            if (flipped == null || flipped.Length != frame.Pixels.Length) flipped = new byte[frame.Pixels.Length];
            for (int y = 0; y < frame.Height; y++)
                Buffer.BlockCopy(frame.Pixels, y * row, flipped, (frame.Height - 1 - y) * row, row);
            return flipped;
        }

        void Run()
        {
            AsyncIO.ForceDotNet.Force(); // Unity has no I/O completion ports
            while (!stop)
            {
                try
                {
                    Play();
                }
                catch (HeliosException error)
                {
                    Report(error.Message);
                    Thread.Sleep(500);
                }
            }
        }

        void Report(string message)
        {
            Interlocked.Exchange(ref trouble, message);
        }

        /// <summary>Plays until it is stopped; a lost server is the client's business.</summary>
        void Play()
        {
            using (var client = new HeliosClient(() => new NetMqSocket(Address)))
            {
                client.Lost += why => Report($"lost the server: {why}");
                client.Back += kept => Report(kept ? "back in the same world" : "back in a world begun again");
                client.Connect();
                client.Reset(Scene == "" ? null : Scene, (ulong)Seed);
                while (!stop)
                {
                    client.Hold(held);
                    Frame frame = client.NextFrame();
                    if (frame != null) Interlocked.Exchange(ref newest, frame);
                    client.Wait(0.005);
                }
            }
        }
    }
}

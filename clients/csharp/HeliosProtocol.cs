// Protocol v1 as bytes and back, for the client's side. docs/protocol/schema.json is the table that this follows.
// No socket, no clock.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace Helios
{
    using Fields = Dictionary<string, object>;

    /// <summary>What a world is, seen from outside.</summary>
    public sealed class Card
    {
        public string Name;
        public ulong Height, Width, FramesPerChunk;
        public double Fps;
        public string[] Buttons, Scenes;
        public Dictionary<string, string> Bindings; // key to button
        public bool TakesPrompt;
    }

    /// <summary>What a chunk came to, in a world that has outcomes.</summary>
    public sealed class Outcome
    {
        public double Reward, RewardChance, EndChance;
        public bool Terminated; // the game ended in it
    }

    public abstract class Message { }

    public sealed class Welcome : Message
    {
        public ulong Version, Chunk, Answered, Broadcast;
        public Card Card;
        public string Session, Codec;
    }

    public sealed class Frames : Message
    {
        public ulong Request, Index, Seq;
        public double SentAt, Seconds, MadeAt;
        public ulong[] Shape; // frames, height, width, 3
        public ulong[] Lengths; // of each JPEG
        public string Codec;
        public Outcome Outcome; // null in a world without
        public byte[] Payload;

        /// <summary>The frames one by one: RGB bytes, or a JPEG.</summary>
        public byte[][] Split()
        {
            var found = new byte[Shape[0]][];
            int at = 0;
            for (int k = 0; k < found.Length; k++)
            {
                found[k] = new byte[Codec == "raw" ? Shape[1] * Shape[2] * 3 : Lengths[k]];
                Buffer.BlockCopy(Payload, at, found[k], 0, found[k].Length);
                at += found[k].Length;
            }
            return found;
        }
    }

    public sealed class Done : Message
    {
        public ulong Request, Chunk;
        public string Session;
        public byte[] Payload;
    }

    /// <summary>`error` on the wire.</summary>
    public sealed class Failure : Message
    {
        public ulong Request;
        public string Code, Text;
    }

    public sealed class Pong : Message
    {
        public double SentAt;
    }

    /// <summary>What a client sends, as headers; payloads go as they are.</summary>
    public static class Sent
    {
        public static byte[] Hello(ulong version, string client, string session, IEnumerable<string> codecs)
        {
            return new Header("hello", 4).Count("version", version).Text("client", client).Text("session", session)
                .Texts("codecs", codecs.ToArray()).Bytes;
        }

        /// <param name="arrays">Name and shape of each array in the payload.</param>
        public static byte[] Reset(ulong request, string scene, ulong seed, string prompt,
            KeyValuePair<string, ulong[]>[] arrays)
        {
            return new Header("reset", 5).Count("request", request).Text("scene", scene).Count("seed", seed)
                .Text("prompt", prompt).Arrays("arrays", arrays).Bytes;
        }

        /// <param name="mouse">Movement, right and down; may be null.</param>
        public static byte[] Step(ulong request, IEnumerable<string> buttons, double[] mouse = null)
        {
            return new Header("step", mouse == null ? 2 : 3).Count("request", request).Buttons(buttons)
                .Mouse(mouse).Bytes;
        }

        /// <param name="mouse">Where it is; only differences count. May be null.</param>
        public static byte[] Act(ulong seq, double sentAt, IEnumerable<string> buttons, ulong wanted,
            double[] mouse = null)
        {
            return new Header("act", mouse == null ? 4 : 5).Count("seq", seq).Real("sent_at", sentAt).Buttons(buttons)
                .Count("wanted", wanted).Mouse(mouse).Bytes;
        }

        public static byte[] Prompt(ulong request, string verb, string text, ulong over, ulong? after)
        {
            return new Header("prompt", 5).Count("request", request).Text("verb", verb).Text("text", text)
                .Count("over", over).Count("after", after).Bytes;
        }

        public static byte[] Snapshot(ulong request)
        {
            return new Header("snapshot", 1).Count("request", request).Bytes;
        }

        public static byte[] Restore(ulong request)
        {
            return new Header("restore", 1).Count("request", request).Bytes;
        }

        public static byte[] Fork(ulong request)
        {
            return new Header("fork", 1).Count("request", request).Bytes;
        }

        public static byte[] Invite(ulong request, string verb)
        {
            return new Header("invite", 2).Count("request", request).Text("verb", verb).Bytes;
        }

        public static byte[] Ping(double sentAt)
        {
            return new Header("ping", 1).Real("sent_at", sentAt).Bytes;
        }

        public static byte[] Close()
        {
            return new Header("close", 0).Bytes;
        }

        sealed class Header
        {
            readonly MsgpackWriter writer = new MsgpackWriter();

            public Header(string type, int fields)
            {
                writer.Map(fields + 1);
                Text("t", type);
            }

            public byte[] Bytes => writer.ToArray();

            public Header Count(string name, ulong? value)
            {
                writer.Text(name);
                if (value.HasValue) writer.Count(value.Value);
                else writer.Nil();
                return this;
            }

            public Header Real(string name, double value)
            {
                writer.Text(name);
                writer.Real(value);
                return this;
            }

            public Header Text(string name, string value)
            {
                writer.Text(name);
                if (value == null) writer.Nil();
                else writer.Text(value);
                return this;
            }

            public Header Texts(string name, string[] values)
            {
                writer.Text(name);
                writer.List(values.Length);
                foreach (string value in values) writer.Text(value);
                return this;
            }

            public Header Buttons(IEnumerable<string> held) // each once, sorted: equal messages are equal bytes
            {
                string[] sorted = held.Distinct().ToArray();
                Array.Sort(sorted, CompareUtf8);
                return Texts("buttons", sorted);
            }

            public Header Mouse(double[] position)
            {
                if (position == null) return this;
                writer.Text("mouse");
                writer.List(2);
                foreach (double distance in position) writer.Real(distance);
                return this;
            }

            public Header Arrays(string name, KeyValuePair<string, ulong[]>[] arrays)
            {
                writer.Text(name);
                writer.List(arrays.Length);
                foreach (KeyValuePair<string, ulong[]> array in arrays)
                {
                    writer.List(2);
                    writer.Text(array.Key);
                    writer.List(array.Value.Length);
                    foreach (ulong size in array.Value) writer.Count(size);
                }
                return this;
            }

            static int CompareUtf8(string a, string b)
            {
                byte[] x = Encoding.UTF8.GetBytes(a), y = Encoding.UTF8.GetBytes(b);
                for (int k = 0; k < Math.Min(x.Length, y.Length); k++)
                    if (x[k] != y[k]) return x[k] - y[k];
                return x.Length - y.Length;
            }
        }
    }

    /// <summary>What a server sends.</summary>
    public static class Received
    {
        public const ulong MaxPayload = 64 << 20;
        const int MaxHeader = 1 << 16;
        const ulong MaxCount = (1UL << 63) - 1;

        /// <summary>The message that a server sent; ProtocolException for anything else.</summary>
        public static Message Decode(byte[] head, byte[] body)
        {
            if (head.Length > MaxHeader || (ulong)body.Length > MaxPayload)
                throw new ProtocolException("a message is too long");
            if (!(MsgpackReader.Unpack(head) is Fields header)) throw new ProtocolException("a header must be a map");
            string type = Get(header, "t") as string;
            if (type == "frames") return Frames(header, body);
            if (type == "done") return Done(header, body);
            if (type != "welcome" && type != "error" && type != "pong")
                throw new ProtocolException("not a message of a server");
            if (body.Length > 0) throw new ProtocolException($"{type} carries no payload");
            if (type == "welcome") return Welcome(header);
            if (type == "pong") return new Pong { SentAt = Number(Get(header, "sent_at")) };
            return new Failure
            {
                Request = Count(Get(header, "request")),
                Code = Text(Get(header, "code"), 64),
                Text = Text(Get(header, "message"), 2048),
            };
        }

        static Done Done(Fields header, byte[] payload)
        {
            return new Done
            {
                Request = Count(Get(header, "request")),
                Chunk = Count(Get(header, "chunk")),
                Session = Text(Get(header, "session"), 64),
                Payload = payload,
            };
        }

        static Welcome Welcome(Fields header)
        {
            return new Welcome
            {
                Version = Count(Get(header, "version")),
                Card = Card(Get(header, "card")),
                Session = Text(Get(header, "session"), 64),
                Codec = Codec(Get(header, "codec")),
                Chunk = Count(Get(header, "chunk")),
                Answered = Count(Get(header, "answered")),
                Broadcast = Count(Get(header, "broadcast")),
            };
        }

        static Frames Frames(Fields header, byte[] payload)
        {
            var found = new Frames
            {
                Request = Count(Get(header, "request")),
                Index = Count(Get(header, "index")),
                Seq = Count(Get(header, "seq")),
                SentAt = Number(Get(header, "sent_at")),
                Shape = Counts(Get(header, "shape")),
                Codec = Codec(Get(header, "codec")),
                Lengths = Counts(Get(header, "lengths")),
                Seconds = Number(Get(header, "seconds")),
                MadeAt = Number(Get(header, "made_at")),
                Outcome = header.ContainsKey("outcome") ? Outcome(header["outcome"]) : null,
                Payload = payload,
            };
            if (found.Seconds < 0) throw new ProtocolException("seconds must not be negative");
            CheckFrames(found);
            return found;
        }

        static Outcome Outcome(object value)
        {
            if (!(value is Fields map)) throw new ProtocolException("outcome must be a map");
            return new Outcome
            {
                Reward = Number(Get(map, "reward")),
                Terminated = Flag(Get(map, "terminated")),
                RewardChance = Chance(Get(map, "reward_chance")),
                EndChance = Chance(Get(map, "end_chance")),
            };
        }

        static void CheckFrames(Frames frames)
        {
            ulong[] shape = frames.Shape;
            if (shape.Length != 4 || shape[3] != 3 || shape.Contains(0UL))
                throw new ProtocolException("shape must be frames, height, width, 3");
            ulong size = 1, total = 0, filled = (ulong)frames.Payload.Length;
            foreach (ulong axis in shape) size = size > MaxPayload / axis ? MaxPayload + 1 : size * axis;
            const ulong tooMuch = MaxPayload + 1;
            foreach (ulong length in frames.Lengths) total = Math.Min(total + Math.Min(length, tooMuch), tooMuch);
            if (size > MaxPayload) throw new ProtocolException("frames take too many bytes");
            if (frames.Codec == "raw" && (frames.Lengths.Length > 0 || size != filled))
                throw new ProtocolException("raw frames must fill the payload");
            if (frames.Codec == "jpeg" && ((ulong)frames.Lengths.Length != shape[0] || total != filled))
                throw new ProtocolException("the lengths of the JPEGs must make up the payload");
        }

        static Card Card(object value)
        {
            if (!(value is Fields map)) throw new ProtocolException("card must be a map");
            var found = new Card
            {
                Name = Text(Get(map, "name"), 256),
                Height = Count(Get(map, "height")),
                Width = Count(Get(map, "width")),
                Fps = Number(Get(map, "fps")),
                FramesPerChunk = Count(Get(map, "frames_per_chunk")),
                Buttons = Texts(Get(map, "buttons"), 64, 64),
                Scenes = Texts(Get(map, "scenes"), 256, 256),
                Bindings = Bindings(Get(map, "bindings")),
                TakesPrompt = Flag(Get(map, "takes_prompt")),
            };
            ulong[] sizes = { found.Height, found.Width, found.FramesPerChunk, (ulong)found.Scenes.Length };
            if (sizes.Contains(0UL) || !(found.Fps > 0))
                throw new ProtocolException("card must have a scene and sizes above 0");
            return found;
        }

        static Dictionary<string, string> Bindings(object value)
        {
            if (!(value is Fields map)) throw new ProtocolException("bindings must be a map");
            return map.ToDictionary(pair => Text(pair.Key, 256), pair => Text(pair.Value, 256));
        }

        static object Get(Fields map, string key)
        {
            if (!map.TryGetValue(key, out object found)) throw new ProtocolException($"a message lacks {key}");
            return found;
        }

        static ulong Count(object value)
        {
            if (value is ulong count && count <= MaxCount) return count;
            throw new ProtocolException("a count must be an integer from 0 to 2^63-1");
        }

        static double Number(object value)
        {
            double found = double.NaN;
            if (value is double real) found = real;
            if (value is ulong count) found = count;
            if (value is long below) found = below;
            if (found >= -1e15 && found <= 1e15) return found;
            throw new ProtocolException("a number must be finite");
        }

        static double Chance(object value)
        {
            double found = Number(value);
            if (found >= 0 && found <= 1) return found;
            throw new ProtocolException("a chance must be from 0 to 1");
        }

        static bool Flag(object value)
        {
            if (value is bool flag) return flag;
            throw new ProtocolException("a flag must be true or false");
        }

        static string Text(object value, int longest)
        {
            if (value is string text && MsgpackReader.CountCharacters(text) <= longest) return text;
            throw new ProtocolException($"text must have at most {longest} characters");
        }

        static string Codec(object value)
        {
            string found = Text(value, 16);
            if (found == "raw" || found == "jpeg") return found;
            throw new ProtocolException("codec must be raw or jpeg");
        }

        static List<object> List(object value, int longest)
        {
            if (value is List<object> list && list.Count <= longest) return list;
            throw new ProtocolException($"a list must have at most {longest} values");
        }

        static ulong[] Counts(object value)
        {
            return List(value, 1024).Select(Count).ToArray();
        }

        static string[] Texts(object value, int most, int longest)
        {
            return List(value, most).Select(item => Text(item, longest)).ToArray();
        }
    }
}

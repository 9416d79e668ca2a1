// The golden vectors of the protocol, read by this client: make test

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using Helios;
using Fields = System.Collections.Generic.Dictionary<string, object>;

public static class Vectors
{
    static int passed, failed;

    public static int Main(string[] words)
    {
        string text = File.ReadAllText(words.Length > 0 ? words[0] : "../../docs/protocol/vectors.json");
        var vectors = (Fields)new Json(text).Value();
        foreach (string list in new[] { "messages", "accepted" })
            foreach (Fields row in ((List<object>)vectors[list]).Cast<Fields>())
            {
                if ((string)row["from"] == "client")
                {
                    Check(Hex(Encode((Fields)row["message"])) == (string)row["header_hex"], $"encodes {row["name"]}");
                    Check(IsRefused(row), $"refuses a client's {row["name"]}");
                }
                else Check(Same(Plain(Decode(row)), row["message"]), $"decodes {row["name"]}");
            }
        foreach (Fields row in ((List<object>)vectors["refused"]).Cast<Fields>())
            Check(IsRefused(row), $"refuses {row["why"]}");
        Console.WriteLine($"{passed} passed, {failed} failed");
        return failed > 0 || passed < 100 ? 1 : 0;
    }

    static void Check(bool holds, string name)
    {
        if (holds) passed++;
        else failed++;
        if (!holds) Console.WriteLine($"failed: {name}");
    }

    static Message Decode(Fields row)
    {
        return Received.Decode(Bytes((string)row["header_hex"]), Bytes((string)row["payload_hex"]));
    }

    static bool IsRefused(Fields row)
    {
        try
        {
            Decode(row);
            return false;
        }
        catch (ProtocolException)
        {
            return true;
        }
    }

    static byte[] Encode(Fields m)
    {
        var arrays = m.ContainsKey("arrays") ? ((List<object>)m["arrays"]).Cast<List<object>>() : new List<object>[0];
        var pairs = arrays.Select(pair => new KeyValuePair<string, ulong[]>((string)pair[0], Counts(pair[1])));
        string scene = m.ContainsKey("scene") ? (string)m["scene"] : null;
        double[] mouse = m.ContainsKey("mouse")
            ? ((List<object>)m["mouse"]).Select(Convert.ToDouble).ToArray() : null;
        switch ((string)m["t"])
        {
            case "hello":
                return Sent.Hello(Count(m["version"]), (string)m["client"], (string)m["session"], Texts(m["codecs"]));
            case "reset":
                return Sent.Reset(Count(m["request"]), scene, Count(m["seed"]), (string)m["prompt"], pairs.ToArray());
            case "step": return Sent.Step(Count(m["request"]), Texts(m["buttons"]), mouse);
            case "act":
                return Sent.Act(Count(m["seq"]), (double)m["sent_at"], Texts(m["buttons"]), Count(m["wanted"]), mouse);
            case "prompt":
                ulong? after = m["after"] == null ? (ulong?)null : Count(m["after"]);
                return Sent.Prompt(Count(m["request"]), (string)m["verb"], (string)m["text"], Count(m["over"]), after);
            case "snapshot": return Sent.Snapshot(Count(m["request"]));
            case "restore": return Sent.Restore(Count(m["request"]));
            case "fork": return Sent.Fork(Count(m["request"]));
            case "invite": return Sent.Invite(Count(m["request"]), (string)m["verb"]);
            case "ping": return Sent.Ping((double)m["sent_at"]);
            default: return Sent.Close();
        }
    }

    static object Plain(Message message)
    {
        if (message is Pong pong) return new Fields { { "t", "pong" }, { "sent_at", pong.SentAt } };
        if (message is Failure failure)
            return new Fields
            {
                { "t", "error" }, { "request", failure.Request }, { "code", failure.Code }, { "message", failure.Text },
            };
        if (message is Done done)
            return new Fields
            {
                { "t", "done" }, { "request", done.Request }, { "chunk", done.Chunk }, { "session", done.Session },
                { "payload", Hex(done.Payload) },
            };
        if (message is Welcome w)
            return new Fields
            {
                { "t", "welcome" }, { "version", w.Version }, { "card", Plain(w.Card) }, { "session", w.Session },
                { "codec", w.Codec }, { "chunk", w.Chunk }, { "answered", w.Answered },
                { "broadcast", w.Broadcast },
            };
        var f = (Frames)message;
        var found = new Fields
        {
            { "t", "frames" }, { "request", f.Request }, { "index", f.Index }, { "seq", f.Seq },
            { "sent_at", f.SentAt }, { "shape", Listed(f.Shape) }, { "codec", f.Codec },
            { "lengths", Listed(f.Lengths) }, { "seconds", f.Seconds }, { "made_at", f.MadeAt },
            { "payload", Hex(f.Payload) },
        };
        if (f.Outcome != null)
            found["outcome"] = new Fields
            {
                { "reward", f.Outcome.Reward }, { "terminated", f.Outcome.Terminated },
                { "reward_chance", f.Outcome.RewardChance }, { "end_chance", f.Outcome.EndChance },
            };
        return found;
    }

    static Fields Plain(Card card)
    {
        return new Fields
        {
            { "name", card.Name }, { "height", card.Height }, { "width", card.Width }, { "fps", card.Fps },
            { "frames_per_chunk", card.FramesPerChunk }, { "buttons", Listed(card.Buttons) },
            { "scenes", Listed(card.Scenes) },
            { "bindings", card.Bindings.ToDictionary(pair => pair.Key, pair => (object)pair.Value) },
            { "takes_prompt", card.TakesPrompt },
        };
    }

    /// <summary>Whether a value is what the vectors write: a count that a double cannot hold is text there.</summary>
    static bool Same(object found, object wanted)
    {
        if (found is Fields a && wanted is Fields b)
            return a.Count == b.Count && a.All(pair => b.ContainsKey(pair.Key) && Same(pair.Value, b[pair.Key]));
        if (found is List<object> x && wanted is List<object> y)
            return x.Count == y.Count && x.Zip(y, Same).All(same => same);
        if (found is ulong count) return (wanted is string || wanted is double) && count == Count(wanted);
        return Equals(found, wanted);
    }

    static List<object> Listed<T>(IEnumerable<T> values)
    {
        return values.Select(value => (object)value).ToList();
    }

    static ulong Count(object value)
    {
        return value is string text ? ulong.Parse(text) : (ulong)(double)value;
    }

    static ulong[] Counts(object values)
    {
        return ((List<object>)values).Select(Count).ToArray();
    }

    static string[] Texts(object values)
    {
        return ((List<object>)values).Cast<string>().ToArray();
    }

    static byte[] Bytes(string hex)
    {
        return Enumerable.Range(0, hex.Length / 2).Select(k => Convert.ToByte(hex.Substring(2 * k, 2), 16)).ToArray();
    }

    static string Hex(byte[] bytes)
    {
        return string.Concat(bytes.Select(value => value.ToString("x2")));
    }

    /// <summary>Just enough JSON for the vectors: numbers are double, the file is well formed.</summary>
    sealed class Json
    {
        readonly string text;
        int at;

        public Json(string text)
        {
            this.text = text;
        }

        public object Value()
        {
            switch (Next())
            {
                case '{': return Map();
                case '[': return List();
                case '"': return Text();
            }
            int from = at;
            while (at < text.Length && ",]}\n ".IndexOf(text[at]) < 0) at++;
            string word = text.Substring(from, at - from);
            if (word == "null") return null;
            if (word == "true" || word == "false") return word == "true";
            double number = double.Parse(word, CultureInfo.InvariantCulture);
            return word[0] == '-' ? -Math.Abs(number) : number; // older runtimes read -0.0 as 0.0
        }

        /// <summary>The next character that is no space, which stays.</summary>
        char Next()
        {
            while (char.IsWhiteSpace(text[at])) at++;
            return text[at];
        }

        bool Skip(char wanted)
        {
            if (Next() != wanted) return false;
            at++;
            return true;
        }

        Fields Map()
        {
            var found = new Fields();
            for (at++; !Skip('}'); Skip(','))
            {
                Next();
                string key = Text();
                Skip(':');
                found[key] = Value();
            }
            return found;
        }

        List<object> List()
        {
            var found = new List<object>();
            for (at++; !Skip(']'); Skip(',')) found.Add(Value());
            return found;
        }

        string Text()
        {
            var found = new StringBuilder();
            for (at++; text[at] != '"'; at++)
            {
                if (text[at] != '\\') found.Append(text[at]);
                else if (text[++at] != 'u') found.Append(text[at]);
                else
                {
                    found.Append((char)Convert.ToInt32(text.Substring(at + 1, 4), 16));
                    at += 4;
                }
            }
            at++;
            return found.ToString();
        }
    }
}

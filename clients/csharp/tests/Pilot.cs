// For tests: does what stdin says and prints what happens, one line each. clients/README.md has the words.

using System;
using System.Collections.Concurrent;
using System.Globalization;
using System.Linq;
using System.Threading;
using Helios;

public static class Pilot
{
    static readonly ConcurrentQueue<string> Lines = new ConcurrentQueue<string>();
    static volatile bool ended;
    static bool streaming;
    static byte[] saved;

    public static void Main(string[] words)
    {
        CultureInfo.DefaultThreadCurrentCulture = CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        new Thread(Read) { IsBackground = true }.Start();
        HeliosKeys keys = words.Length > 4 ? new HeliosKeys(words[2], words[3], words[4]) : null;
        using (var client = new HeliosClient(() => new LibzmqSocket(words[0], keys), 10, 2, words[1]))
        {
            client.Lost += why => Say("lost");
            client.Back += kept => Say(kept ? "back kept" : "back anew");
            client.Refused += message => Say($"refused {message}");
            Card card = client.Connect();
            Say($"card {card.Name} {card.Width} {card.Height} {card.Fps}");
            while (!ended || !Lines.IsEmpty)
            {
                if (Lines.TryDequeue(out string line)) Obey(client, line);
                else if (!streaming) Thread.Sleep(1);
                if (!streaming) continue;
                for (Frame f = client.NextFrame(); f != null; f = client.NextFrame())
                    Say($"frame {f.Chunk} {f.Index} {f.Seq} {Row(f.Pixels, f.Width)}");
                client.Wait(0.005);
            }
        }
    }

    static void Read()
    {
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine()) Lines.Enqueue(line);
        ended = true;
    }

    static void Obey(HeliosClient client, string line)
    {
        string[] words = line.Split(' ');
        string word = words.Length > 1 ? words[1] : "";
        string[] buttons = word.Split(new[] { ',' }, StringSplitOptions.RemoveEmptyEntries);
        try
        {
            switch (words[0])
            {
                case "reset": Say($"began {client.Reset(null, ulong.Parse(word)).Index}"); break;
                case "step":
                    Chunk chunk = client.Step(buttons);
                    Say($"stepped {chunk.Index} {Row(chunk.Frames.Last(), chunk.Width)}");
                    break;
                case "stream": streaming = true; break;
                case "hold": client.Hold(buttons); break;
                case "look": client.Look(double.Parse(word), 0); break;
                case "snapshot": Say($"snapshot {(saved = client.Snapshot()).Length}"); break;
                case "restore": client.Restore(saved); Say("restored"); break;
                case "prompt": client.Prompt(word); Say("told"); break;
                case "stats":
                    Stats s = client.Stats;
                    Say($"stats {s.Fps} {s.AgeP50} {s.AgeP95} {s.RoundTripP50} {s.RoundTripP95} {s.LateChunks}");
                    break;
            }
        }
        catch (ServerException error)
        {
            Say($"error {error.Code} {error.Message}");
        }
        catch (HeliosException error)
        {
            Say($"error - {error.Message}");
        }
    }

    /// <summary>The red of the first row, as hex; of a JPEG some bytes.</summary>
    static string Row(byte[] pixels, int width)
    {
        return string.Concat(Enumerable.Range(0, width).Select(x => pixels[3 * x].ToString("x2")));
    }

    static void Say(string line)
    {
        Console.Out.WriteLine(line);
        Console.Out.Flush();
    }
}

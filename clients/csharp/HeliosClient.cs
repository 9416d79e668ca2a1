// A world on a server (`helios-world serve`), in lock-step or in real time. Says hello again with its ticket when the
// server was lost, and goes on from the newest snapshot it kept when the server no longer knows the ticket.
// One thread at a time may use a client. All that it throws is a HeliosException.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;

namespace Helios
{
    /// <summary>The server refused; Code is one of those in docs/protocol/schema.json.</summary>
    public sealed class ServerException : HeliosException
    {
        public readonly string Code;

        public ServerException(string code, string message) : base(message)
        {
            Code = code;
        }
    }

    /// <summary>Nobody answered in time.</summary>
    public sealed class ConnectionLostException : HeliosException
    {
        public ConnectionLostException(string message) : base(message) { }
    }

    /// <summary>One connection of a DEALER socket. NetMqSocket is one. Only TryReceive may wait.</summary>
    public interface IHeliosSocket : IDisposable
    {
        /// <summary>Sends two parts, or drops them if the socket is full.</summary>
        void Send(byte[] head, byte[] body);

        /// <summary>The parts of the next message, or null if none comes within some seconds.</summary>
        List<byte[]> TryReceive(double seconds);
    }

    /// <summary>What one step made: frames as RGB bytes, or as JPEGs.</summary>
    public sealed class Chunk
    {
        public ulong Index;
        public int Height, Width;
        public string Codec;
        public Outcome Outcome; // null in a world without
        public byte[][] Frames;
    }

    /// <summary>Measured lately, in milliseconds; see clients/README.md.</summary>
    public struct Stats
    {
        public double Fps, AgeP50, AgeP95, RoundTripP50, RoundTripP95;
        public int LateChunks;
    }

    public sealed class HeliosClient : IDisposable
    {
        const double Silence = 1.5; // seconds without a word after which the server counts as lost
        const double Ping = 1.0; // seconds between pings
        const double Repeat = 0.1; // seconds after which held buttons are said again
        const int Recent = 1024; // measurements kept
        static readonly byte[] Empty = new byte[0];

        sealed class Request
        {
            public Func<ulong, byte[]> Header;
            public byte[] Payload = Empty;
            public bool BeginsWorld, IsStep;
        }

        public event Action<string> Lost = why => { };
        public event Action<bool> Back = kept => { }; // true: the server still had the world
        public event Action<string> Refused = message => { };

        readonly Func<IHeliosSocket> connectSocket;
        readonly double timeout, autosave;
        readonly string[] codecs;
        IHeliosSocket socket;
        Pacer pacer;
        string ticket = "";
        ulong request, seq, asked;
        Request pending, origin; // the one that waits for its answer; what the world began with
        ulong number, begun, saving; // of the pending request; of a world begun again; of a snapshot to keep
        Message answer;
        Failure failure;
        byte[] kept; // the newest snapshot: what the world goes on from when the server forgot it
        bool live, lost, playing; // live: the server's session has our world
        string[] held = new string[0];
        double[] mouse = new double[2]; // where it is; only differences count
        double askedAt, actedAt, heardAt, pingedAt, savedAt = double.NegativeInfinity;
        readonly Queue<double> seconds = new Queue<double>(), trips = new Queue<double>();
        readonly Queue<double> ages = new Queue<double>(), shownAt = new Queue<double>();

        /// <param name="connectSocket">Opens a connection: () => new NetMqSocket("tcp://127.0.0.1:5557").</param>
        /// <param name="timeout">Seconds until a request that nobody answers fails.</param>
        /// <param name="autosave">Seconds between snapshots kept while playing.</param>
        /// <param name="codecs">"raw" gives RGB bytes, "jpeg" gives JPEGs as they came.</param>
        public HeliosClient(Func<IHeliosSocket> connectSocket, double timeout = 10, double autosave = 2,
            params string[] codecs)
        {
            this.connectSocket = connectSocket;
            this.timeout = timeout;
            this.autosave = autosave;
            this.codecs = codecs.Length > 0 ? codecs : new[] { "raw" };
        }

        /// <summary>What the world is; null before Connect.</summary>
        public Card Card { get; private set; }

        /// <summary>Number of the newest input sent; a frame's Seq says up to which one it includes.</summary>
        public ulong Seq => seq;

        /// <summary>Waits for the server and gives its world card.</summary>
        public Card Connect()
        {
            Open();
            Await(() => Card != null || failure != null);
            ThrowFailure();
            return Card;
        }

        /// <summary>Starts a new world; the chunk that it starts from.</summary>
        public Chunk Reset(string scene = null, ulong seed = 0, string prompt = null)
        {
            var none = new KeyValuePair<string, ulong[]>[0];
            Func<ulong, byte[]> header = n => Sent.Reset(n, scene, seed, prompt, none);
            return ToChunk(Ask(new Request { Header = header, BeginsWorld = true }));
        }

        /// <summary>Lock-step: one chunk under these buttons, held for all its frames.</summary>
        public Chunk Step(params string[] buttons)
        {
            return ToChunk(Ask(new Request { Header = n => Sent.Step(n, buttons), IsStep = true }));
        }

        /// <summary>This world as bytes.</summary>
        public byte[] Snapshot()
        {
            return ((Done)Ask(new Request { Header = Sent.Snapshot })).Payload;
        }

        /// <summary>Goes back, or over, to the world in <paramref name="snapshot"/>.</summary>
        public void Restore(byte[] snapshot)
        {
            Ask(new Request { Header = Sent.Restore, Payload = snapshot, BeginsWorld = true });
        }

        /// <summary>Tells the world what to show: verb "change", "queue" or "cancel".</summary>
        public void Prompt(string text, string verb = "change", ulong over = 1, ulong? after = null)
        {
            Ask(new Request { Header = n => Sent.Prompt(n, verb, text, over, after) });
        }

        /// <summary>Real time: these buttons are held from now on.</summary>
        public void Hold(params string[] buttons)
        {
            if (buttons.SequenceEqual(held)) return;
            held = buttons;
            if (playing && live) Act(0);
        }

        /// <summary>Real time: the mouse moved by so many counts, right and down.</summary>
        public void Look(double x, double y)
        {
            mouse = new[] { mouse[0] + x, mouse[1] + y };
        }

        /// <summary>Real time: the frame due now if it was not given before, else null. Never waits.</summary>
        public Frame NextFrame()
        {
            playing = true;
            Tick(0);
            Frame found = pacer?.FrameAt(Now());
            if (found != null) Remember(shownAt, Now());
            return found;
        }

        /// <summary>Sleeps until NextFrame may have something new, for at most some seconds.</summary>
        public void Wait(double most)
        {
            double at = Now(), until = at + most;
            if (playing && pacer != null) until = Math.Min(until, pacer.NextEvent(at));
            Tick(Math.Max(0, until - at));
        }

        public Stats Stats
        {
            get
            {
                double span = shownAt.Count > 1 ? shownAt.Last() - shownAt.First() : double.NaN;
                return new Stats
                {
                    Fps = (shownAt.Count - 1) / span,
                    AgeP50 = 1e3 * Pacer.Quantile(ages, 0.5),
                    AgeP95 = 1e3 * Pacer.Quantile(ages, 0.95),
                    RoundTripP50 = 1e3 * Pacer.Quantile(trips, 0.5),
                    RoundTripP95 = 1e3 * Pacer.Quantile(trips, 0.95),
                    LateChunks = pacer == null ? 0 : pacer.LateChunks,
                };
            }
        }

        /// <summary>Ends the session on the server. No other call may follow.</summary>
        public void Dispose()
        {
            socket?.Send(Sent.Close(), Empty);
            socket?.Dispose();
            socket = null;
        }

        static double Now() // CLOCK_MONOTONIC on Linux, as the server's
        {
            return (double)Stopwatch.GetTimestamp() / Stopwatch.Frequency;
        }

        static void Remember(Queue<double> values, double value)
        {
            values.Enqueue(value);
            if (values.Count > Recent) values.Dequeue();
        }

        // The connection

        void Open()
        {
            socket?.Dispose();
            live = false;
            begun = saving = 0;
            heardAt = pingedAt = Now();
            socket = connectSocket();
            socket.Send(Sent.Hello(1, "helios-world-csharp", ticket, codecs), Empty);
        }

        void Lose(string why)
        {
            if (!lost && origin != null)
            {
                lost = true;
                Lost(why);
            }
            Open();
        }

        /// <summary>Does all there is to do now; waits for a first message for at most some seconds.</summary>
        void Tick(double wait)
        {
            if (socket == null) throw new ConnectionLostException("the client is not connected");
            for (List<byte[]> parts = socket.TryReceive(wait); parts != null; parts = socket.TryReceive(0)) Take(parts);
            double at = Now();
            if (at - heardAt > Patience()) Lose("no answer");
            else if (at - pingedAt >= Ping)
            {
                pingedAt = at;
                socket.Send(Sent.Ping(at), Empty);
            }
            if (playing && live && begun == 0) Drive(at);
        }

        /// <summary>Seconds of silence to bear: a server that makes a chunk says nothing else.</summary>
        double Patience()
        {
            double usual = Silence + 3 * seconds.Skip(seconds.Count - 4).DefaultIfEmpty(0).Max();
            return pending != null || begun > 0 || seconds.Count == 0 ? Math.Max(usual, timeout / 4) : usual;
        }

        void Take(List<byte[]> parts)
        {
            heardAt = Now();
            Message message;
            try
            {
                if (parts.Count != 2) throw new ProtocolException("a message must have 2 parts");
                message = Received.Decode(parts[0], parts[1]);
            }
            catch (ProtocolException error)
            {
                Refused(error.Message);
                return;
            }
            if (message is Welcome welcome) Enter(welcome);
            else if (message is Failure failed) Fail(failed);
            else if (message is Frames frames)
            {
                if (frames.Request == 0) Arrive(frames);
                else Answer(frames.Request, frames);
            }
            else if (message is Done done)
            {
                if (saving > 0 && done.Request == saving) Keep(done);
                else Answer(done.Request, done);
            }
        }

        void Enter(Welcome welcome)
        {
            bool known = welcome.Session == ticket && welcome.Chunk > 0;
            Card = welcome.Card;
            ticket = welcome.Session;
            request = Math.Max(request, welcome.Answered);
            if (pacer == null) pacer = new Pacer(Card.Fps, Card.FramesPerChunk);
            live = known;
            if (known)
            {
                pacer.Reset(welcome.Chunk);
                Resume(true);
            }
            else if (playing && origin != null) BeginAgain();
            else
            {
                lost = false;
                Resend(true);
            }
        }

        void BeginAgain()
        {
            begun = ++request;
            if (kept != null) socket.Send(Sent.Restore(begun), kept);
            else socket.Send(origin.Header(begun), origin.Payload);
        }

        /// <summary>The world goes on.</summary>
        void Resume(bool known)
        {
            bool was = lost;
            live = true;
            lost = false;
            Resend(!known);
            if (playing) Act(0);
            if (was) Back(known);
        }

        /// <summary>Sends again what was not answered; to the same session under the same number.</summary>
        void Resend(bool isNew)
        {
            if (pending == null) return;
            if (isNew && pending.IsStep)
            {
                const string text = "the server no longer has this world: reset or restore a snapshot";
                failure = new Failure { Request = number, Code = "unknown_session", Text = text };
                return;
            }
            if (isNew) number = ++request;
            socket.Send(pending.Header(number), pending.Payload);
        }

        void Fail(Failure failed)
        {
            if (failed.Request > 0 && failed.Request == saving) saving = 0;
            else if (failed.Request > 0 && failed.Request == begun && kept != null)
            {
                kept = null; // a snapshot of another world: from the start
                BeginAgain();
            }
            else if (failed.Code == "unknown_session") Lose(failed.Text);
            else if (Card == null || (failed.Request > 0 && failed.Request == number)) failure = failed;
            else Refused(failed.Text);
        }

        // Requests

        Message Ask(Request asked)
        {
            if (socket == null) throw new ConnectionLostException("the client is not connected");
            failure = null;
            answer = null;
            pending = asked;
            number = ++request;
            try
            {
                socket.Send(asked.Header(number), asked.Payload);
                Await(() => answer != null || failure != null);
            }
            finally
            {
                pending = null;
            }
            ThrowFailure();
            return answer;
        }

        void Await(Func<bool> done)
        {
            double until = Now() + timeout;
            while (!done())
            {
                if (Now() >= until) throw new ConnectionLostException($"no answer within {timeout} s");
                Wait(0.1);
            }
        }

        void ThrowFailure()
        {
            Failure failed = failure;
            failure = null;
            if (failed != null) throw new ServerException(failed.Code, failed.Text);
        }

        void Answer(ulong answered, Message message)
        {
            if (begun > 0 && answered == begun)
            {
                begun = 0;
                Enter(message);
                Resume(false);
            }
            else if (pending != null && answered == number)
            {
                if (pending.BeginsWorld)
                {
                    origin = pending;
                    kept = null;
                    savedAt = double.NegativeInfinity;
                    live = true;
                    Enter(message);
                }
                answer = message;
            }
        }

        /// <summary>The server is in another world now: that of a reset's frames, or the one restored.</summary>
        void Enter(Message message)
        {
            pacer.Reset(message is Done done ? done.Chunk : 0);
            if (message is Frames frames) Arrive(frames);
        }

        static Chunk ToChunk(Message message)
        {
            var frames = (Frames)message;
            return new Chunk
            {
                Index = frames.Index,
                Height = (int)frames.Shape[1],
                Width = (int)frames.Shape[2],
                Codec = frames.Codec,
                Outcome = frames.Outcome,
                Frames = frames.Split(),
            };
        }

        // Real time

        void Arrive(Frames frames)
        {
            double at = Now();
            if (pacer == null || !pacer.Put(frames, at)) return;
            if (frames.Index > 0)
            {
                Remember(seconds, frames.Seconds);
                Remember(ages, at - frames.MadeAt);
                if (frames.Index == asked) Remember(trips, at - askedAt);
            }
            if (!playing || !live || pending != null || saving > 0 || at - savedAt < autosave) return;
            savedAt = at; // right after a chunk the server has time
            saving = ++request;
            socket.Send(Sent.Snapshot(saving), Empty);
        }

        void Keep(Done done)
        {
            kept = done.Payload;
            saving = 0;
        }

        void Drive(double at)
        {
            ulong wanted = pacer.WantsChunk(at);
            if (wanted > 0)
            {
                asked = wanted;
                askedAt = at;
                Act(wanted);
                pacer.Asked(at);
            }
            else if (held.Length > 0 && at - actedAt >= Repeat) Act(0);
        }

        void Act(ulong wanted)
        {
            actedAt = Now();
            socket.Send(Sent.Act(++seq, actedAt, held, wanted, mouse), Empty);
        }
    }
}

// Which frame to show now, and when to ask for the next chunk. Pure: time is an argument, in seconds.
// The same rules as helios_world/bridge/player.py: frames of a chunk are shown evenly, and a chunk is asked for at the
// last moment from which it still arrives before it is due.

using System;
using System.Collections.Generic;
using System.Linq;

namespace Helios
{
    /// <summary>A frame that is due: RGB bytes, or a JPEG. Seq: the newest input that it includes.</summary>
    public sealed class Frame
    {
        public byte[] Pixels;
        public int Height, Width, Index;
        public string Codec;
        public ulong Chunk, Seq;
        public Outcome Outcome; // of its chunk, the same for all frames of that; null in a world without
    }

    public sealed class Pacer
    {
        const int Recent = 64; // round trips that the lead is learnt from
        const double Margin = 0.003; // seconds
        const double Spread = 0.15; // part of (p90 - p50) added to the margin
        const double Poll = 0.02; // seconds that an asking may come late; anything longer was a stall
        const double CatchUp = 0.02; // part of a chunk's time that it is shortened by until lateness is made up
        const double Stall = 0.25; // seconds; who was later than this goes on at the usual pace
        const double Retry = 1.0; // seconds after which an unanswered asking is repeated

        sealed class Playing
        {
            public Frames Message;
            public byte[][] Frames;
            public double Begins, Ends;
        }

        readonly double step;
        readonly Queue<double> trips = new Queue<double>();
        double lead; // seconds before it is due that a chunk is asked for; a guess at first
        Playing now, then;
        ulong next;
        ulong? seenChunk;
        int seenIndex;
        double? askedAt;
        double planned, putAt, behind;

        public Pacer(double fps, ulong framesPerChunk)
        {
            step = 1 / fps;
            lead = 0.5 * framesPerChunk / fps;
        }

        public int LateChunks { get; private set; }

        /// <summary>Forgets all frames.</summary>
        /// <param name="nextChunk">The one to ask for at once; 0 waits for the chunk that a world starts from.</param>
        public void Reset(ulong nextChunk = 0)
        {
            now = then = null;
            seenChunk = null;
            askedAt = null;
            next = nextChunk;
            planned = putAt = behind = 0;
        }

        /// <summary>A chunk came. False if it is no newer than one that came before.</summary>
        public bool Put(Frames message, double at)
        {
            if (message.Index < next) return false;
            if (askedAt.HasValue) Learn(at - planned);
            askedAt = null;
            double due = Due(at), begins = Math.Max(due, at);
            if (begins > due) LateChunks++;
            if (begins - due < Stall) behind += begins - due;
            byte[][] frames = message.Split();
            double lasts = frames.Length * step;
            double madeUp = Math.Min(behind, CatchUp * lasts);
            behind -= madeUp;
            double ends = begins + lasts - madeUp;
            var playing = new Playing { Message = message, Frames = frames, Begins = begins, Ends = ends };
            if (now == null || at >= due)
            {
                now = playing;
                then = null;
            }
            else then = playing;
            next = message.Index + 1;
            putAt = at;
            return true;
        }

        /// <summary>The frame due now if it was not given before, else null.</summary>
        public Frame FrameAt(double at)
        {
            if (then != null && at >= then.Begins)
            {
                now = then;
                then = null;
            }
            if (now == null) return null;
            int index = (int)Math.Floor((at - now.Begins) / step + 1e-9);
            index = Math.Max(0, Math.Min(index, now.Frames.Length - 1));
            Frames message = now.Message;
            if (seenChunk == message.Index && seenIndex == index) return null;
            seenChunk = message.Index;
            seenIndex = index;
            return new Frame
            {
                Pixels = now.Frames[index],
                Height = (int)message.Shape[1],
                Width = (int)message.Shape[2],
                Codec = message.Codec,
                Chunk = message.Index,
                Index = index,
                Seq = message.Seq,
                Outcome = message.Outcome,
            };
        }

        /// <summary>Index of the chunk to ask for now, or 0. Say Asked once the asking is on its way.</summary>
        public ulong WantsChunk(double at)
        {
            return next > 0 && at >= AskTime(at) ? next : 0;
        }

        public void Asked(double at)
        {
            if (!askedAt.HasValue) planned = Math.Max(PlannedTime(at), at - Poll);
            askedAt = at;
        }

        /// <summary>The earliest time at which there may be something new to show or to ask for.</summary>
        public double NextEvent(double at)
        {
            double found = next > 0 ? AskTime(at) : double.PositiveInfinity;
            if (then != null) found = Math.Min(found, then.Begins);
            if (now == null) return found;
            double index = Math.Floor((at - now.Begins) / step + 1e-9) + 1;
            return index < now.Frames.Length ? Math.Min(found, now.Begins + Math.Max(index, 1) * step) : found;
        }

        /// <summary>Linear between neighbours, as numpy has it; NaN of nothing.</summary>
        public static double Quantile(IEnumerable<double> values, double part)
        {
            double[] sorted = values.OrderBy(value => value).ToArray();
            if (sorted.Length == 0) return double.NaN;
            double at = part * (sorted.Length - 1);
            int low = (int)at, high = Math.Min(low + 1, sorted.Length - 1);
            return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
        }

        void Learn(double trip)
        {
            trips.Enqueue(trip);
            if (trips.Count > Recent) trips.Dequeue();
            double middle = Quantile(trips, 0.5), high = Quantile(trips, 0.9);
            lead = high + Margin + Spread * (high - middle);
        }

        double Due(double at)
        {
            return then != null ? then.Ends : now != null ? now.Ends : at;
        }

        double PlannedTime(double at)
        {
            return now == null ? at : Math.Max(Due(at) - lead, putAt);
        }

        double AskTime(double at)
        {
            if (askedAt.HasValue) return askedAt.Value + Math.Max(Retry, 3 * lead);
            return then == null ? PlannedTime(at) : Math.Max(then.Begins, PlannedTime(at));
        }
    }
}

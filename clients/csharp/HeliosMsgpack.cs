// The part of msgpack that message headers use. Reading is strict: limits, no binary, no extensions, valid UTF-8 alone.

using System;
using System.Collections.Generic;
using System.Text;

namespace Helios
{
    /// <summary>Root of all that this client throws.</summary>
    public class HeliosException : Exception
    {
        public HeliosException(string message) : base(message) { }
    }

    /// <summary>Bytes that are no message of a server.</summary>
    public class ProtocolException : HeliosException
    {
        public ProtocolException(string message) : base(message) { }
    }

    /// <summary>Gives null, bool, ulong, long (below 0), double, string, List, or Dictionary by string.</summary>
    public sealed class MsgpackReader
    {
        const ulong MaxText = 16384, MaxList = 1024, MaxMap = 256;
        const int MaxDepth = 32;
        static readonly UTF8Encoding Utf8 = new UTF8Encoding(false, true);

        readonly byte[] bytes;
        int offset;

        MsgpackReader(byte[] bytes)
        {
            this.bytes = bytes;
        }

        /// <summary>The one value in <paramref name="bytes"/>.</summary>
        public static object Unpack(byte[] bytes)
        {
            var reader = new MsgpackReader(bytes);
            object found = reader.Value(MaxDepth);
            if (reader.offset != bytes.Length) throw new ProtocolException("bytes after the header");
            return found;
        }

        /// <summary>Number of characters, where a surrogate pair is one.</summary>
        public static int CountCharacters(string text)
        {
            int count = 0;
            foreach (char unit in text)
                if (!char.IsLowSurrogate(unit)) count++;
            return count;
        }

        int Take(ulong size)
        {
            if (size > (ulong)(bytes.Length - offset)) throw new ProtocolException("the header is cut short");
            int at = offset;
            offset += (int)size;
            return at;
        }

        /// <summary>An unsigned integer of 1, 2, 4 or 8 bytes.</summary>
        ulong Number(int width)
        {
            int at = Take((ulong)width);
            ulong found = 0;
            for (int k = 0; k < width; k++) found = found << 8 | bytes[at + k];
            return found;
        }

        object Value(int depth)
        {
            ulong head = Number(1);
            if (head < 0x80) return head;
            if (head < 0x90) return Map(head & 15, depth);
            if (head < 0xa0) return List(head & 15, depth);
            if (head < 0xc0) return Text(head & 31);
            if (head >= 0xe0) return Signed(head, 1);
            switch (head)
            {
                case 0xc0: return null;
                case 0xc2: return false;
                case 0xc3: return true;
                case 0xca: return Real32();
                case 0xcb: return BitConverter.Int64BitsToDouble((long)Number(8));
                case 0xcc: return Number(1);
                case 0xcd: return Number(2);
                case 0xce: return Number(4);
                case 0xcf: return Number(8);
                case 0xd0: return Signed(Number(1), 1);
                case 0xd1: return Signed(Number(2), 2);
                case 0xd2: return Signed(Number(4), 4);
                case 0xd3: return Signed(Number(8), 8);
                case 0xd9: return Text(Number(1));
                case 0xda: return Text(Number(2));
                case 0xdb: return Text(Number(4));
                case 0xdc: return List(Number(2), depth);
                case 0xdd: return List(Number(4), depth);
                case 0xde: return Map(Number(2), depth);
                case 0xdf: return Map(Number(4), depth);
                default: throw new ProtocolException("a msgpack type that headers do not use");
            }
        }

        static object Signed(ulong raw, int width)
        {
            int unused = 64 - 8 * width;
            long value = (long)(raw << unused) >> unused;
            return value < 0 ? (object)value : (ulong)value;
        }

        object Real32()
        {
            byte[] raw = BitConverter.GetBytes((uint)Number(4));
            return (double)BitConverter.ToSingle(raw, 0);
        }

        string Text(ulong size)
        {
            if (size > MaxText) throw new ProtocolException("text is too long");
            int at = Take(size);
            try
            {
                return Utf8.GetString(bytes, at, (int)size);
            }
            catch (ArgumentException)
            {
                throw new ProtocolException("text is not UTF-8");
            }
        }

        object List(ulong size, int depth)
        {
            if (size > MaxList || depth == 0) throw new ProtocolException("a list is too long or too deep");
            var found = new List<object>();
            for (; size > 0; size--) found.Add(Value(depth - 1));
            return found;
        }

        object Map(ulong size, int depth)
        {
            if (size > MaxMap || depth == 0) throw new ProtocolException("a map is too large or too deep");
            var found = new Dictionary<string, object>();
            for (; size > 0; size--)
            {
                if (!(Value(0) is string key)) throw new ProtocolException("a key is no text");
                found[key] = Value(depth - 1);
            }
            return found;
        }
    }

    /// <summary>Bytes of a header, value by value; every integer in its shortest form.</summary>
    public sealed class MsgpackWriter
    {
        readonly List<byte> bytes = new List<byte>();

        public byte[] ToArray()
        {
            return bytes.ToArray();
        }

        public void Nil()
        {
            bytes.Add(0xc0);
        }

        public void Map(int size) // messages have fewer than 16 fields
        {
            bytes.Add((byte)(0x80 | size));
        }

        public void List(int size)
        {
            if (size < 16) Head(0x90 | size, 0, 0);
            else Head(0xdc, 2, (ulong)size);
        }

        public void Count(ulong value)
        {
            if (value < 0x80) Head((int)value, 0, 0);
            else if (value < 0x100) Head(0xcc, 1, value);
            else if (value < 0x10000) Head(0xcd, 2, value);
            else if (value < 0x100000000) Head(0xce, 4, value);
            else Head(0xcf, 8, value);
        }

        public void Real(double value)
        {
            Head(0xcb, 8, (ulong)BitConverter.DoubleToInt64Bits(value));
        }

        public void Text(string value)
        {
            byte[] utf8 = Encoding.UTF8.GetBytes(value);
            if (utf8.Length < 32) Head(0xa0 | utf8.Length, 0, 0);
            else if (utf8.Length < 0x100) Head(0xd9, 1, (ulong)utf8.Length);
            else Head(0xda, 2, (ulong)utf8.Length);
            bytes.AddRange(utf8);
        }

        void Head(int code, int width, ulong value)
        {
            bytes.Add((byte)code);
            for (int k = width - 1; k >= 0; k--) bytes.Add((byte)(value >> (8 * k)));
        }
    }
}

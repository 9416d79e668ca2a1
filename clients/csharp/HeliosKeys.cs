// CURVE keys as `helios-world keygen` writes them, for a server that asks for them.

namespace Helios
{
    public sealed class HeliosKeys
    {
        const string Digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

        public readonly byte[] PublicKey, SecretKey, ServerKey; // of 32 bytes

        /// <summary>Each is z85 text of 40 characters.</summary>
        public HeliosKeys(string publicKey, string secretKey, string serverKey)
        {
            PublicKey = Decode(publicKey);
            SecretKey = Decode(secretKey);
            ServerKey = Decode(serverKey);
        }

        static byte[] Decode(string text)
        {
            if (text.Length != 40) throw new HeliosException($"a key has {text.Length} characters: must be 40");
            var found = new byte[32];
            for (int group = 0; group < 8; group++)
            {
                uint value = 0;
                for (int k = 0; k < 5; k++)
                {
                    int digit = Digits.IndexOf(text[5 * group + k]);
                    if (digit < 0) throw new HeliosException("a key must be z85 text");
                    value = value * 85 + (uint)digit;
                }
                for (int k = 0; k < 4; k++) found[4 * group + k] = (byte)(value >> (24 - 8 * k));
            }
            return found;
        }
    }
}

## Messages as helios_world/gateway/wire.py has them: u32 big-endian length of a JSON header, the
## header, the payload.
extends RefCounted


## A message without payload.
static func pack(header: Dictionary) -> PackedByteArray:
	var words := JSON.stringify(header).to_utf8_buffer()
	var writer := StreamPeerBuffer.new()
	writer.big_endian = true
	writer.put_u32(words.size())
	writer.put_data(words)
	return writer.data_array


## [header, payload]; the header is empty if the message is damaged. Its numbers are floats.
static func unpack(message: PackedByteArray) -> Array:
	var reader := StreamPeerBuffer.new()
	reader.big_endian = true
	reader.data_array = message
	var end := 4 + reader.get_u32() if message.size() >= 4 else 0
	var header: Variant = null
	if 4 < end and end <= message.size():
		header = JSON.parse_string(message.slice(4, end).get_string_from_utf8())
	return [header, message.slice(end)] if header is Dictionary else [{}, PackedByteArray()]


## The JPEGs of a `frames` message.
static func pictures(header: Dictionary, payload: PackedByteArray) -> Array[PackedByteArray]:
	var found: Array[PackedByteArray] = []
	var offset := 0
	for length: int in header["lengths"]:
		found.append(payload.slice(offset, offset + length))
		offset += length
	return found

## One world of a `helios-world gateway`, played in real time. Call `poll` for every picture, then
## show `frame`.
##
## When the gateway or the server is lost it connects anew by itself, with its ticket: the world
## goes on where it was, or from a snapshot some seconds old. Held buttons stay held.
extends RefCounted

signal met(card: Dictionary)
signal lost(why: String)
signal back(kept: bool)  ## false: the world began anew
signal refused(why: String)  ## the gateway does not take this token; no more is tried
signal failed(why: String)  ## an attempt to connect, or what the server was asked for

const Pacer := preload("helios_pacer.gd")
const Wire := preload("helios_wire.gd")

const VERSION := 1
const NAME := "helios-world-godot"
const RESEND := 0.1  # seconds after which held buttons are said again
const PING := 1.0
const SILENCE := 6.0  # without a word after which the gateway counts as lost
const RETRY_FIRST := 0.25  # between attempts to reach it; doubles up to
const RETRY_MOST := 4.0
const FADE := 3  # chunks over which the world comes to what it was told
const WINDOW := 2.0  # seconds that frames are counted over
const INBOUND := 1 << 24  # bytes of one message; Godot's own 64 KiB are too few for a chunk
const WRONG_TOKEN := 4401
const CLOSE_WORDS := {WRONG_TOKEN: "wrong token", 4429: "all places of this gateway are taken"}

var card := {}  # of the world: name, width, height, fps, buttons, bindings ...
var status := "connecting"  # then "playing", "lost" or "refused"
var seed_number := 0

var _address: String
var _token: String
var _socket: WebSocketPeer = null
var _pacer: Pacer = null
var _ticket := ""  # of the session, to take it up again
var _is_greeted := false
var _is_live := false  # the server has our world
var _request := 0
var _begun := 0  # number of an unanswered reset
var _wish := -1  # seed that was asked for and did not come yet
var _held: Array[String] = []
var _mouse := Vector2.ZERO  # where it is; only differences count
var _seq := 0
var _heard_at := 0.0
var _pinged_at := 0.0
var _acted_at := 0.0
var _retry_at := 0.0
var _retry_after := RETRY_FIRST
var _asked := 0  # chunk, and when
var _asked_at := 0.0
var _shown_at: Array[float] = []
var _trips: Array[float] = []


## `address`: such as ws://127.0.0.1:8080/ws.
func _init(address: String, token: String, with_seed := 0) -> void:
	_address = address
	_token = token
	seed_number = with_seed


## Does all there is to do now.
func poll() -> void:
	var now := _clock()
	if _socket == null:
		if status != "refused" and now >= _retry_at:
			_connect(now)
		return
	_socket.poll()
	match _socket.get_ready_state():
		WebSocketPeer.STATE_OPEN:
			_talk(now)
		WebSocketPeer.STATE_CLOSED:
			_drop(now, CLOSE_WORDS.get(_socket.get_close_code(), "the gateway is away"))
	if _socket != null and now - _heard_at > SILENCE:
		_drop(now, "no answer from the gateway")


## The frame that is due now as {jpeg, chunk, index, seq}; empty if there is no new one.
func frame() -> Dictionary:
	var due := {} if _pacer == null else _pacer.frame(_clock())
	if not due.is_empty():
		_keep(_shown_at, _clock())
	return due


## Begins a new world; the old one shows until it comes.
func reset(with_seed: int) -> void:
	_wish = with_seed
	if _is_live:
		_begin()


## These buttons are held from now on.
func hold(buttons: Array[String]) -> void:
	if buttons == _held:
		return
	_held = buttons.duplicate()
	if _is_live:
		_act(_clock())


## The mouse moved by so much, right and down; the next chunk that is asked for includes it.
func look(movement: Vector2) -> void:
	_mouse += movement


## Tells the world what to show, in words, if its card says `takes_prompt`.
func tell(text: String) -> void:
	if _is_live:
		_request += 1
		var said := {
			"request": _request, "verb": "change", "text": text, "over": FADE, "after": null
		}
		_send("prompt", said)


## {fps, round_trip, late_chunks}: frames a second; median of the milliseconds from asking for a
## chunk to having it; chunks that came too late to be shown evenly.
func stats() -> Dictionary:
	var since := _clock() - WINDOW
	var fps := _shown_at.filter(func(at: float) -> bool: return at > since).size() / WINDOW
	var late := 0 if _pacer == null else _pacer.late_chunks
	return {"fps": fps, "round_trip": 1000 * Pacer.quantile(_trips, 0.5), "late_chunks": late}


## Leaves. The world is over with `for_good`; else it waits a while for who takes it up again.
func close(for_good := true) -> void:
	if _socket != null:
		if for_good and _is_live:
			_send("close", {})
		_socket.close()
	_is_live = false


func _clock() -> float:
	return Time.get_ticks_usec() / 1e6


func _connect(now: float) -> void:
	_socket = WebSocketPeer.new()
	_socket.inbound_buffer_size = INBOUND
	_heard_at = now
	_is_greeted = false
	if _socket.connect_to_url(_address) != OK:
		_drop(now, "%s cannot be reached" % _address)


func _drop(now: float, why: String) -> void:
	var is_refused := _socket.get_close_code() == WRONG_TOKEN
	_socket = null
	_retry_at = now + _retry_after
	_retry_after = minf(2 * _retry_after, RETRY_MOST)
	if is_refused:
		_is_live = false
		status = "refused"
		refused.emit(why)
	else:
		_lose(why)


func _lose(why: String) -> void:
	_is_live = false
	_begun = 0
	if status == "playing":
		status = "lost"
		lost.emit(why)
	else:
		failed.emit(why)


func _talk(now: float) -> void:
	if not _is_greeted:
		_is_greeted = true
		_send("token", {"token": _token})
		var hello := {"version": VERSION, "client": NAME, "session": _ticket, "codecs": ["jpeg"]}
		_send("hello", hello)
	while _socket.get_available_packet_count() > 0:
		_heard_at = now
		var message := Wire.unpack(_socket.get_packet())
		_receive(message[0], message[1], now)
	if now - _pinged_at >= PING:
		_pinged_at = now
		_send("ping", {"sent_at": now})
	if _is_live and _begun == 0:
		_steer(now)


func _steer(now: float) -> void:
	var wanted := _pacer.wants_chunk(now)
	if wanted > 0:
		_act(now, wanted)
		_pacer.asked(now)
		_asked = wanted
		_asked_at = now
	elif not _held.is_empty() and now - _acted_at >= RESEND:
		_act(now)


func _act(now: float, wanted := 0) -> void:
	_acted_at = now
	_seq += 1
	var mouse := [_mouse.x, _mouse.y]
	_send("act", {"seq": _seq, "sent_at": now, "buttons": _held, "wanted": wanted, "mouse": mouse})


func _send(kind: String, fields: Dictionary) -> void:
	_socket.send(Wire.pack(fields.merged({"t": kind})))


func _receive(header: Dictionary, payload: PackedByteArray, now: float) -> void:
	match header.get("t"):
		"welcome":
			_welcome(header)
		"frames":
			_take(header, payload, now)
		"lost":
			_lose("the server of worlds is away")
		"error":
			_fail(header)


func _welcome(header: Dictionary) -> void:
	_retry_after = RETRY_FIRST
	_is_live = true
	_ticket = header["session"]
	if header["card"] != card:
		card = header["card"]
		_pacer = Pacer.new(card["fps"], int(card["frames_per_chunk"]))
		met.emit(card)
	var chunk := int(header["chunk"])
	if status == "lost":
		back.emit(chunk > 0)
	if _wish < 0 and chunk == 0:
		_wish = seed_number
	if _wish >= 0:
		_begin()
	else:
		_resume(chunk)


func _begin() -> void:
	_request += 1
	_begun = _request
	var start := {"request": _begun, "scene": null, "seed": _wish, "prompt": null, "arrays": []}
	_send("reset", start)


func _resume(chunk: int) -> void:
	_pacer.reset(chunk)
	status = "playing"
	_act(_clock())


func _take(header: Dictionary, payload: PackedByteArray, now: float) -> void:
	var request := int(header["request"])
	if not _is_live or request != _begun:
		return
	if _begun > 0:
		seed_number = _wish
		_wish = -1
		_begun = 0
		_resume(0)
	var index := int(header["index"])
	if (
		_pacer.put(index, Wire.pictures(header, payload), int(header["seq"]), now)
		and index == _asked
	):
		_keep(_trips, now - _asked_at)


func _fail(header: Dictionary) -> void:
	if _begun > 0 and int(header["request"]) == _begun:
		_begun = 0
		_wish = -1
	failed.emit(header["message"])


func _keep(list: Array[float], value: float) -> void:
	list.append(value)
	if list.size() > 256:
		list.pop_front()

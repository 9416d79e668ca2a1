## Which frame to show now, and when to ask for the next chunk: helios_world/bridge/player.py.
##
## Frames arrive a chunk at a time and are shown evenly. A chunk is asked for at the last moment
## from which it still arrives before it is due, so that it obeys the newest keys. Knows no clock:
## times are arguments, in seconds.
extends RefCounted

const RECENT := 64  # round trips that the lead is learnt from
const MARGIN := 0.003  # seconds
const SPREAD := 0.15  # part of (p90 - p50) added to the margin
const POLL := 0.02  # seconds that an asking may come late because the caller polls
const CATCH_UP := 0.02  # part of a chunk's time that it is shortened by until lateness is made up
const STALL := 0.25  # seconds; who was later than this goes on at the usual pace
const RETRY := 1.0  # seconds after which an unanswered asking is repeated

var late_chunks := 0

var _step: float  # seconds between frames
var _lead: float  # seconds before it is due that a chunk is asked for
var _trips: Array[float] = []
var _now := {}  # the chunk on screen: index, frames, seq, begins, ends
var _then := {}  # the one after it
var _next := 0
var _seen := Vector2i(-1, -1)
var _asked_at := NAN
var _planned := 0.0
var _put_at := 0.0
var _behind := 0.0


func _init(fps: float, frames_per_chunk: int) -> void:
	_step = 1.0 / fps
	_lead = 0.5 * frames_per_chunk / fps


## Forgets all frames. `next_chunk` is asked for at once; 0 waits for what a world starts from.
func reset(next_chunk: int) -> void:
	_now = {}
	_then = {}
	_next = next_chunk
	_seen = Vector2i(-1, -1)
	_asked_at = NAN
	_planned = 0.0
	_put_at = 0.0
	_behind = 0.0


## A chunk came. False if it is no newer than one that came before.
func put(index: int, frames: Array[PackedByteArray], seq: int, now: float) -> bool:
	if index < _next:
		return false
	if not is_nan(_asked_at):
		_learn(now - _planned)
	_asked_at = NAN
	var due := _due(now)
	var begins := maxf(due, now)
	late_chunks += int(begins > due)
	_behind += begins - due if begins - due < STALL else 0.0
	var lasts := frames.size() * _step
	var made_up := minf(_behind, CATCH_UP * lasts)
	_behind -= made_up
	var playing := {"index": index, "frames": frames, "seq": seq}
	playing.merge({"begins": begins, "ends": begins + lasts - made_up})
	if _now.is_empty() or now >= due:
		_now = playing
		_then = {}
	else:
		_then = playing
	_next = index + 1
	_put_at = now
	return true


## The frame due now as {jpeg, chunk, index, seq}; empty if it was given before.
func frame(now: float) -> Dictionary:
	if not _then.is_empty() and now >= _then.begins:
		_now = _then
		_then = {}
	if _now.is_empty():
		return {}
	# 1e-9: k / fps times fps may fall just short of k
	var index := clampi(int((now - _now.begins) / _step + 1e-9), 0, _now.frames.size() - 1)
	if _seen == Vector2i(_now.index, index):
		return {}
	_seen = Vector2i(_now.index, index)
	return {"jpeg": _now.frames[index], "chunk": _now.index, "index": index, "seq": _now.seq}


## Index of the chunk to ask for now, or 0. Say `asked` once the asking is on its way.
func wants_chunk(now: float) -> int:
	return _next if _next > 0 and now >= _ask_time(now) else 0


func asked(now: float) -> void:
	if is_nan(_asked_at):
		_planned = maxf(_planned_time(now), now - POLL)
	_asked_at = now


func _learn(trip: float) -> void:
	_trips.append(trip)
	if _trips.size() > RECENT:
		_trips.pop_front()
	var high := quantile(_trips, 0.9)
	_lead = high + MARGIN + SPREAD * (high - quantile(_trips, 0.5))


func _due(now: float) -> float:
	var last := _now if _then.is_empty() else _then
	return now if last.is_empty() else last.ends


func _planned_time(now: float) -> float:
	return now if _now.is_empty() else maxf(_due(now) - _lead, _put_at)


func _ask_time(now: float) -> float:
	if not is_nan(_asked_at):
		return _asked_at + maxf(RETRY, 3 * _lead)
	# Two chunks ahead would make inputs wait.
	return _planned_time(now) if _then.is_empty() else maxf(_then.begins, _planned_time(now))


## Linear between neighbours, as numpy has it; 0 of nothing.
static func quantile(values: Array[float], part: float) -> float:
	if values.is_empty():
		return 0.0
	var ordered := values.duplicate()
	ordered.sort()
	var place := part * (ordered.size() - 1)
	var low := int(place)
	return lerpf(ordered[low], ordered[mini(low + 1, ordered.size() - 1)], place - low)

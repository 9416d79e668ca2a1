## For tests: plays the scene as stdin says and prints what happens, one line each. The words are in
## clients/README.md.
extends SceneTree

var _lines: Array[String] = []
var _mutex := Mutex.new()
var _has_ended := false
var _reader := Thread.new()
var _view: TextureRect


func _initialize() -> void:
	Engine.max_fps = 120  # there is no screen to wait for
	_view = load("res://world.tscn").instantiate()
	root.add_child(_view)
	_view.ready.connect(_listen)
	_reader.start(_read)


func _process(_delta: float) -> bool:
	_mutex.lock()
	var lines := _lines.duplicate()
	_lines.clear()
	var is_over := _has_ended
	_mutex.unlock()
	lines.map(_obey)
	return is_over


func _finalize() -> void:
	_reader.wait_to_finish()


func _listen() -> void:
	var client: RefCounted = _view.client
	client.met.connect(func(card: Dictionary) -> void: print("card %s %d %d %s" % _sizes(card)))
	client.lost.connect(func(_why: String) -> void: print("lost"))
	client.back.connect(func(kept: bool) -> void: print("back ", "kept" if kept else "anew"))
	client.refused.connect(func(why: String) -> void: print("refused ", why))
	client.failed.connect(func(message: String) -> void: print("error ", message))
	_view.shown.connect(_tell_frame)


func _sizes(card: Dictionary) -> Array:
	return [card["name"], card["width"], card["height"], card["fps"]]


## The red of the first row, as hex.
func _tell_frame(frame: Dictionary) -> void:
	var reds := PackedByteArray()
	for x in _view.image.get_width():
		reds.append(_view.image.get_pixel(x, 0).r8)
	print("frame %d %d %d %s" % [frame.chunk, frame.index, frame.seq, reds.hex_encode()])


func _read() -> void:
	var line := OS.read_string_from_stdin(1024)
	while line != "":
		_mutex.lock()
		_lines.append(line.strip_edges())
		_mutex.unlock()
		line = OS.read_string_from_stdin(1024)
	_mutex.lock()
	_has_ended = true
	_mutex.unlock()


func _obey(line: String) -> void:
	var words := line.split(" ")
	match words[0]:
		"press", "release":
			_press(OS.find_keycode_from_string(words[1]), words[0] == "press")
		"look":
			_look(words[1].to_float())
		"prompt":
			_view.client.tell(words[1])
		"stats":
			var stats: Dictionary = _view.client.stats()
			print("stats %s %s %d" % [stats.fps, stats.round_trip, stats.late_chunks])
			print("figures ", _view.figures.text)


## A click, and a movement of the mouse to the side.
func _look(counts: float) -> void:
	var click := InputEventMouseButton.new()
	click.button_index = MOUSE_BUTTON_LEFT
	click.pressed = true
	_view._input(click)
	var movement := InputEventMouseMotion.new()
	movement.relative = Vector2(counts, 0)
	_view._input(movement)


func _press(code: Key, is_down: bool) -> void:
	var event := InputEventKey.new()
	event.keycode = code
	event.physical_keycode = code
	event.pressed = is_down
	Input.parse_input_event(event)

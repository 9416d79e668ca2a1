## A world as a picture, played with the keys that its card names. F3 hides the line of figures, R
## begins the next seed.
extends TextureRect

signal shown(frame: Dictionary)  ## it is in `image` now, and in the texture

const HeliosClient := preload("helios_client.gd")

const FIGURES_SECONDS := 0.25  # figures that change faster are unreadable
## What Godot calls a key, in lower case, to what a world's card calls it, where they differ.
const KEY_NAMES := {"enter": "return", "shift": "left shift", "ctrl": "left ctrl"}

## Of a running `helios-world gateway`. On the command line: `-- --address URL`.
@export var address := "ws://127.0.0.1:8080/ws"
## Better not saved in a scene. On the command line: `-- --token TEXT`.
@export var token := ""
@export var seed_number := 0

var client: HeliosClient
var image := Image.new()

var _held := {}  # code of a key that is down to its button
var _is_caught := false  # the mouse
var _trouble := ""
var _figures_at := -INF

@onready var figures: Label = $Figures


func _ready() -> void:
	client = HeliosClient.new(_option("--address", address), _option("--token", token), seed_number)
	client.lost.connect(_complain)
	client.refused.connect(_complain)
	client.failed.connect(_complain)
	client.met.connect(func(_card: Dictionary) -> void: _trouble = "")
	client.back.connect(func(_kept: bool) -> void: _trouble = "")


func _process(_delta: float) -> void:
	client.poll()
	var frame := client.frame()
	if not frame.is_empty():
		_show(frame)
	_write()


## A click catches the mouse where the world has one, and moving it turns; Escape lets it go.
func _input(event: InputEvent) -> void:
	if event is InputEventMouseButton and event.is_pressed() and client.card.has("mouse"):
		_is_caught = true
		Input.mouse_mode = Input.MOUSE_MODE_CAPTURED
	elif event is InputEventMouseMotion and _is_caught:
		client.look((event as InputEventMouseMotion).relative)
	elif event.is_action_pressed("ui_cancel"):
		_is_caught = false
		Input.mouse_mode = Input.MOUSE_MODE_VISIBLE


func _unhandled_key_input(event: InputEvent) -> void:
	var key := event as InputEventKey
	var name := OS.get_keycode_string(key.keycode).to_lower()
	var button: String = client.card.get("bindings", {}).get(KEY_NAMES.get(name, name), "")
	if key.echo:
		return
	if not key.pressed:
		_held.erase(key.physical_keycode)
	elif button != "":
		_held[key.physical_keycode] = button
	elif key.keycode == KEY_R:
		client.reset(client.seed_number + 1)
	elif key.keycode == KEY_F3:
		figures.visible = not figures.visible
	_hold()


func _notification(what: int) -> void:
	if what == NOTIFICATION_APPLICATION_FOCUS_OUT and client != null:
		_held.clear()  # the keys will come up elsewhere
		_hold()


func _exit_tree() -> void:
	client.close()


func _hold() -> void:
	var buttons: Array[String] = []
	for button: String in _held.values():
		if button not in buttons:
			buttons.append(button)
	client.hold(buttons)


func _show(frame: Dictionary) -> void:
	if image.load_jpg_from_buffer(frame.jpeg) != OK:
		_complain("a picture could not be read")
	elif texture != null and texture.get_size() == Vector2(image.get_size()):
		(texture as ImageTexture).update(image)
	else:
		texture = ImageTexture.create_from_image(image)
	shown.emit(frame)


func _write() -> void:
	var now := Time.get_ticks_msec() / 1000.0
	if now - _figures_at < FIGURES_SECONDS:
		return
	_figures_at = now
	var stats := client.stats()
	var words := "%s, seed %d" % [client.card.get("name", "-"), client.seed_number]
	words += "   %.1f fps   round trip %.0f ms" % [stats.fps, stats.round_trip]
	figures.text = words + "   " + client.status
	if _trouble != "":
		figures.text += ": " + _trouble


func _complain(why: String) -> void:
	_trouble = why


## What follows `name` on the command line after `--`, else `usual`.
func _option(name: String, usual: String) -> String:
	var words := OS.get_cmdline_user_args()
	var at := words.find(name)
	return words[at + 1] if at >= 0 and at + 1 < words.size() else usual

// Playing the step: forward and then backward, one visible row after the other.

const playButton = document.getElementById("play"), speed = document.getElementById("speed");
let playing = 0;  // the timer, or 0

function playOn() {
  step("next");
  if (position >= EVENTS.length) return pause();
  playing = setTimeout(playOn, 1000 / Number(speed.value));
}

function play() {
  if (position >= EVENTS.length) moveTo(0);
  showPlaying(true);
  playOn();
}

function pause() {
  clearTimeout(playing);
  playing = 0;
  showPlaying(false);
}

function showPlaying(is) {
  playButton.textContent = is ? "⏸ Pause" : "▶ Play";
  playButton.setAttribute("aria-pressed", is);
}

/** The reader does something: playing ends, and the introduction has been read. */
function taken() {
  isNew = false;
  pause();
}


// After a click on a speed the next arrow key is a step, not another speed.
let clicked = false;
speed.addEventListener("pointerdown", () => { clicked = true; });
speed.addEventListener("keydown", () => { clicked = false; });
speed.addEventListener("change", () => {
  if (clicked) tree.focus();
  clicked = false;
});

const togglePlay = () => playing ? pause() : play();
document.addEventListener("click", event => {
  if (event.target.closest("[data-play]")) togglePlay();
});

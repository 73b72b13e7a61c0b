// The recording that the server has made of a call: played and offered for download once the
// call has ended. Only this page knows its id.

const NAMES = { "call.wav": "Audio (WAV)", "call.json": "Data (JSON)", "report.html": "Report" };

export class Recording {
  #part;
  #player;
  #files;
  #offset = 0; // how long the recording ran before the picture began, in seconds
  #path = null;

  // The part of the page, with the player and the list of files in it. `playing` is called
  // with the time of the call that is heard, in seconds.
  constructor(part, player, files, playing) {
    this.#part = part;
    this.#player = player;
    this.#files = files;
    for (const event of ["timeupdate", "seeked"]) {
      player.addEventListener(event, () => playing(player.currentTime - this.#offset));
    }
  }

  clear() {
    this.#path = null;
    this.#player.pause();
    this.#player.removeAttribute("src");
    this.#part.hidden = true;
  }

  // The server records the call, under an id.
  expect(id, offset) {
    this.#path = `api/calls/${encodeURIComponent(id)}`;
    this.#offset = offset;
  }

  seek(time) {
    if (this.#player.src) this.#player.currentTime = Math.max(0, time + this.#offset);
  }

  // The server answers once the recording is complete.
  async load() {
    const path = this.#path;
    if (path === null) return;
    let files;
    try {
      const response = await fetch(path);
      if (!response.ok) return;
      files = (await response.json()).files;
    } catch {
      return; // the server is gone, and the recording with it
    }
    if (this.#path !== path || files.length === 0) return;
    this.#files.replaceChildren(...files.map((name) => download(`${path}/${name}`, name)));
    // There is none of a very long call.
    this.#player.hidden = !files.includes("call.wav");
    if (!this.#player.hidden) this.#player.src = `${path}/call.wav`;
    this.#part.hidden = false;
  }
}

function download(address, name) {
  const link = document.createElement("a");
  link.className = "file";
  link.href = address;
  link.download = name;
  link.textContent = NAMES[name] ?? name;
  return link;
}

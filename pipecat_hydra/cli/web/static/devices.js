// The microphone and the speaker that the user chooses.

export class Devices {
  #microphones;
  #speakers;
  #speaker;

  // Two lists to choose from, and the element that plays the reply. `changed` is called when
  // the user has chosen another microphone.
  constructor(microphones, speakers, speaker, changed) {
    this.#microphones = microphones;
    this.#speakers = speakers;
    this.#speaker = speaker;
    microphones.addEventListener("change", changed);
    speakers.addEventListener("change", () => this.#play());
    // Some browsers play where the system says, and give no choice.
    speakers.closest(".field").hidden = !("setSinkId" in HTMLMediaElement.prototype);
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
  }

  // The id of the chosen microphone; empty for the browser's own choice.
  get microphone() {
    return this.#microphones.value;
  }

  // Browsers name the devices only once the user has allowed a microphone.
  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    fill(this.#microphones, devices, "audioinput");
    fill(this.#speakers, devices, "audiooutput");
  }

  async #play() {
    try {
      await this.#speaker.setSinkId(this.#speakers.value);
    } catch {
      this.#speakers.value = ""; // it is gone, or not allowed
    }
  }
}

function fill(list, devices, kind) {
  const chosen = list.value;
  const named = devices.filter((device) => device.kind === kind && device.label);
  const others = named.filter(({ deviceId }) => deviceId !== "default" && deviceId !== "");
  list.replaceChildren(
    new Option("Default", ""),
    ...others.map(({ label, deviceId }) => new Option(label, deviceId)),
  );
  list.value = others.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}

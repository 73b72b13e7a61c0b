// What the user chooses of the service before a call: model, voice and instructions. The
// server says what there is.

export class Settings {
  #part;
  #model;
  #voice;
  #instructions;
  #chosen;
  #models = [];

  constructor({ part, model, voice, instructions, chosen }) {
    this.#part = part;
    this.#model = model;
    this.#voice = voice;
    this.#instructions = instructions;
    this.#chosen = chosen;
    model.addEventListener("change", () => {
      this.#offerVoices("");
      this.#tell();
    });
    voice.addEventListener("change", () => this.#tell());
  }

  offer({ model, voice, models, instructions, instructions_limit: limit }) {
    this.#models = models;
    this.#model.replaceChildren(...models.map(({ name }) => new Option(name, name)));
    this.#model.value = model;
    this.#offerVoices(voice);
    this.#instructions.value = instructions;
    this.#instructions.maxLength = limit;
    this.#part.hidden = false;
    this.#tell();
  }

  // As the server expects it; null if it has offered nothing.
  get choice() {
    if (this.#models.length === 0) return null;
    return {
      model: this.#model.value,
      voice: this.#voice.value,
      instructions: this.#instructions.value,
    };
  }

  // Hydra is told them once, when a session begins.
  set isFixed(isFixed) {
    for (const field of [this.#model, this.#voice, this.#instructions]) field.disabled = isFixed;
  }

  #offerVoices(wanted) {
    const model = this.#models.find(({ name }) => name === this.#model.value);
    const own = model.default_voice;
    this.#voice.replaceChildren(
      new Option(own ? `${own} (default)` : "Default", ""),
      ...model.voices.filter((name) => name !== own).map((name) => new Option(name, name)),
    );
    this.#voice.value = model.voices.includes(wanted) && wanted !== own ? wanted : "";
  }

  #tell() {
    const voice = this.#voice.value || this.#models.find(
      ({ name }) => name === this.#model.value,
    ).default_voice;
    this.#chosen.textContent = [this.#model.value, voice].filter(Boolean).join(", ");
  }
}

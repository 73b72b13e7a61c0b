// A conversation as a list of entries, made of RTVI messages as they come. It knows nothing
// of the page, nor of the clock: each message comes with its time in seconds.
//
// An entry has an `id`, the `time` when it began, a `kind`, and what goes with that:
//   note          text, isReconnect
//   user          until, text, isDiscarded, isFirst
//   typed         text
//   reply         text, until, firstAudio, heardFrom, answeredAfter, generated, isInterrupted
//   call          name, args, result, until, isCancelled
//   interruption  silentAfter
//   disturbance   text
//   problem       text

export class Conversation {
  entries = [];
  #changed;
  #user = null;
  #reply = null;
  #isHeard = false;
  #started = 0;
  #unheard = 0;
  #generated = new Map(); // seconds by number of the reply
  #firstAudio = null;
  #calls = new Map();

  // `changed` is called with each entry that is new or has changed.
  constructor(changed) {
    this.#changed = changed;
  }

  get isUserSpeaking() {
    return this.#user !== null;
  }

  get isBotSpeaking() {
    return this.#reply !== null && this.#reply.until === null;
  }

  get isCalling() {
    return this.#calls.size > 0;
  }

  // How long after the user's turns the replies were heard, in seconds.
  get answers() {
    const times = this.entries.map((entry) => entry.answeredAfter ?? null);
    return times.filter((time) => time !== null);
  }

  note(time, text) {
    this.#add({ kind: "note", time, text, isReconnect: false });
  }

  typed(time, text) {
    this.#firstAudio = null;
    this.#add({ kind: "typed", time, text });
  }

  problem(time, text) {
    this.#add({ kind: "problem", time, text });
  }

  silentAfter(entry, seconds) {
    this.#change(entry, { silentAfter: seconds });
  }

  answered(entry, heardFrom, answeredAfter) {
    this.#change(entry, { heardFrom, answeredAfter });
  }

  // Whatever is still going on ends with the call.
  end(time) {
    if (this.#user) this.#userStopped(time);
    if (this.isBotSpeaking) this.#botStopped(time);
    for (const id of [...this.#calls.keys()]) {
      this.#callStopped(time, { tool_call_id: id, cancelled: true });
    }
  }

  receive(time, { type, data }) {
    switch (type) {
      case "user-started-speaking":
        this.#firstAudio = null;
        this.#user ??= this.#addUser(time);
        break;
      case "user-stopped-speaking":
        if (this.#user) this.#userStopped(time);
        break;
      case "bot-tts-started":
        this.#started += 1;
        this.#unheard += 1;
        if (this.#isHeard) this.#openReply(time);
        break;
      case "bot-started-speaking":
        this.#isHeard = true;
        this.#openReply(time);
        break;
      case "bot-stopped-speaking":
        this.#isHeard = false;
        if (this.isBotSpeaking) this.#botStopped(time);
        break;
      case "bot-output":
        this.#botSaid(data);
        break;
      // Hydra gives no words of the user; a transcriber beside it does.
      case "user-transcription":
        if (data.final) this.#userSaid(data.text);
        break;
      // It comes with every turn of the user's, also when there is nothing to interrupt.
      case "bot-interrupted":
        this.#unheard = 0;
        if (this.isBotSpeaking) this.#interrupted(time);
        break;
      case "metrics":
        this.#measured(data);
        break;
      case "llm-function-call-in-progress":
        this.#callStarted(time, data);
        break;
      case "llm-function-call-stopped":
        this.#callStopped(time, data);
        break;
      // Pipecat's own `error` says the same in words for a programmer.
      case "server-message":
        this.#told(time, data ?? {});
        break;
    }
  }

  #told(time, { type, text, reply, secs }) {
    switch (type) {
      case "problem":
        this.problem(time, sentence(text));
        break;
      case "note":
        this.#add({ kind: "note", time, text, isReconnect: true });
        break;
      case "disturbance":
        this.#add({ kind: "disturbance", time, text });
        break;
      case "discarded":
        this.#discarded();
        break;
      case "generated":
        this.#generated.set(reply, secs);
        if (this.#reply?.number === reply) this.#change(this.#reply, { generated: secs });
        break;
    }
  }

  #addUser(time) {
    const isFirst = !this.entries.some(({ kind }) => kind === "user");
    return this.#add({ kind: "user", time, until: null, text: "", isDiscarded: false, isFirst });
  }

  #userSaid(text) {
    const entry = this.entries.findLast(({ kind }) => kind === "user");
    if (entry) this.#change(entry, { text: `${entry.text} ${text}`.trim() });
  }

  // The turn was noise, so that what is heard after it is no answer to it.
  #discarded() {
    const turn = this.entries.findLast(({ kind }) => kind === "user");
    if (!turn) return;
    this.#change(turn, { isDiscarded: true });
    for (const entry of this.entries.slice(turn.id)) {
      if (entry.kind === "reply") this.#change(entry, { answeredAfter: null });
    }
  }

  #userStopped(time) {
    this.#change(this.#user, { until: time });
    this.#user = null;
  }

  // A reply is there once it was made and is heard. To be heard is not enough: now and then
  // Pipecat plays one last piece of a reply that was interrupted, and says that the bot
  // starts to speak.
  #openReply(time) {
    if (this.isBotSpeaking || this.#unheard === 0) return;
    this.#unheard -= 1;
    const number = this.#started - this.#unheard;
    const firstAudio = this.#firstAudio;
    this.#firstAudio = null;
    this.#reply = this.#add({
      kind: "reply",
      time,
      until: null,
      text: "",
      number,
      firstAudio,
      heardFrom: null,
      answeredAfter: null,
      generated: this.#generated.get(number) ?? null,
      isInterrupted: false,
    });
  }

  #botStopped(time) {
    this.#change(this.#reply, { until: time });
  }

  #botSaid({ text, spoken }) {
    if (this.#reply && spoken) this.#change(this.#reply, { text: this.#reply.text + text });
  }

  #interrupted(time) {
    this.#change(this.#reply, { until: time, isInterrupted: true });
    if (!this.#user) return; // a typed text does so, too
    this.#add({ kind: "interruption", time, silentAfter: null });
  }

  #measured({ ttfb }) {
    const value = ttfb?.find((metric) => metric.value > 0)?.value;
    if (value === undefined) return;
    // It comes a little before the reply is heard, or a little after.
    if (this.isBotSpeaking && this.#reply.firstAudio === null) {
      this.#change(this.#reply, { firstAudio: value });
    } else {
      this.#firstAudio = value;
    }
  }

  #callStarted(time, { tool_call_id, function_name, arguments: args }) {
    const entry = this.#add({
      kind: "call",
      time,
      name: function_name,
      args,
      until: null,
      isCancelled: false,
    });
    this.#calls.set(tool_call_id, entry);
  }

  #callStopped(time, { tool_call_id, result, cancelled }) {
    const entry = this.#calls.get(tool_call_id);
    this.#calls.delete(tool_call_id);
    if (entry) this.#change(entry, { until: time, result, isCancelled: cancelled });
  }

  #add(entry) {
    entry.id = this.entries.length;
    this.entries.push(entry);
    this.#changed(entry);
    return entry;
  }

  #change(entry, changes) {
    Object.assign(entry, changes);
    this.#changed(entry);
  }
}

function sentence(text) {
  const trimmed = text.trim();
  const end = /[.!?]$/.test(trimmed) ? "" : ".";
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + end;
}

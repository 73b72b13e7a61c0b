// A conversation as a list of entries, made of RTVI messages as they come. It knows nothing
// of the page, nor of the clock: each message comes with its time in seconds.
//
// An entry has an `id`, the `time` when it began, a `kind`, and what goes with that:
//   note          text
//   user          until
//   reply         text, until, firstAudio, isInterrupted
//   call          name, args, result, until, isCancelled
//   interruption  silentAfter
//   problem       text

export class Conversation {
  entries = [];
  #changed;
  #user = null;
  #reply = null;
  #isHeard = false;
  #unheard = 0;
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

  note(time, text) {
    this.#add({ kind: "note", time, text });
  }

  problem(time, text) {
    this.#add({ kind: "problem", time, text });
  }

  silentAfter(entry, seconds) {
    entry.silentAfter = seconds;
    this.#changed(entry);
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
        this.#user ??= this.#add({ kind: "user", time, until: null });
        break;
      case "user-stopped-speaking":
        if (this.#user) this.#userStopped(time);
        break;
      case "bot-tts-started":
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
        if (data?.type === "problem") this.problem(time, sentence(data.text));
        if (data?.type === "note") this.note(time, data.text);
        break;
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
    const firstAudio = this.#firstAudio;
    this.#firstAudio = null;
    this.#reply = this.#add({
      kind: "reply",
      time,
      until: null,
      text: "",
      firstAudio,
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

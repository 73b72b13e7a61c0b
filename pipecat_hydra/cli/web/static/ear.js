// Measures what a person hears of a conversation, from the meters of both voices: how long
// after the user's last sound the reply is heard, and how long a barge-in takes to silence it.
// The server knows when it sends and stops; what is still on its way to the ear it does not.

// How long the bot must be quiet until a barge-in has silenced it: longer than any pause
// between its words, since what is still on the way to the ear is part of it.
const QUIET_MS = 400;
const LIMIT_MS = 4_000;

// How long ago the user's voice may have been heard when the server tells of a barge-in. What
// it took for a voice is else something that this page does not hear.
const VOICE_MS = 3_000;

export class Ear {
  #meters;
  #conversation;
  #seconds;
  #turn = null; // the last turn of the user that waits for an answer, and its last sound
  #answer = null;
  #interruption = null;

  // `seconds` gives the time of the conversation.
  constructor(meters, conversation, seconds) {
    this.#meters = meters;
    this.#conversation = conversation;
    this.#seconds = seconds;
  }

  // Must be called with each entry that is new or has changed.
  follow(entry, now) {
    if (document.hidden) return; // and deaf: levels are measured when the page is drawn
    const { user } = this.#meters;
    if (entry.kind === "user" && entry.until !== null && entry.id !== this.#turn?.entry.id) {
      this.#turn = { entry, ended: user.lastHeard };
    } else if (entry.kind === "typed") {
      this.#turn = null;
    } else if (entry.kind === "reply" && entry.answeredAfter === null && this.#turn?.ended) {
      this.#answer = { reply: entry, turn: this.#turn.entry, ended: this.#turn.ended, at: now };
      this.#turn.ended = null;
    } else if (entry.kind === "interruption" && entry.silentAfter === null) {
      const isHeard = user.lastHeard !== null && now - user.lastHeard < VOICE_MS;
      this.#interruption = { entry, userBegan: isHeard ? user.began : null, at: now };
    }
  }

  // Must be called whenever the meters are.
  update(now) {
    if (this.#answer) this.#measureAnswer(now);
    if (this.#interruption) this.#measureInterruption(now);
  }

  // While the page is hidden nothing is heard, so that what is being measured is lost.
  forget() {
    this.#turn = this.#answer = this.#interruption = null;
  }

  #measureAnswer(now) {
    const { reply, turn, ended, at } = this.#answer;
    const { began } = this.#meters.bot;
    const isHeard = began !== null && began > ended;
    if (!isHeard && now - at < LIMIT_MS) return;
    this.#answer = null;
    if (isHeard && !turn.isDiscarded) {
      const heardFrom = this.#seconds() - (now - began) / 1000;
      this.#conversation.answered(reply, heardFrom, (began - ended) / 1000);
    }
  }

  #measureInterruption(now) {
    const { entry, userBegan, at } = this.#interruption;
    const { lastHeard } = this.#meters.bot;
    const isQuiet = lastHeard !== null && now - lastHeard > QUIET_MS;
    if (!isQuiet && now - at < LIMIT_MS) return;
    this.#interruption = null;
    if (isQuiet && userBegan !== null && lastHeard > userBegan) {
      this.#conversation.silentAfter(entry, (lastHeard - userBegan) / 1000);
    }
  }
}

// A percentile of some values, between two of them if it falls there; null of none.
export function percentile(values, percent) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const place = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(place)];
  return below + (sorted[Math.ceil(place)] - below) * (place % 1);
}

// Promises to their end within one call, on engines that run no jobs of their own while a call lasts.
//
// componentize-js sees promises to their end before a call returns. componentize-qjs does not in calls that the component
// model does not call asynchronous: what was promised would never come, and nobody would say so. There these promises take
// the place of the engine's, and a build makes async functions functions over them (see `bundle` of the host).
//
// They are those of ECMA-262, section 27.2, but for subclasses. What the engine itself promises, such as by
// `Array.fromAsync`, does not come here.

import { converts } from "./text.js";

const jobs = [];

const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";

/** Nothing is left to do, and a promise is still open. */
export class Stuck extends Error {
  name = "Error";
}

export class Promises {
  #state = "pending";
  #value;
  #reactions = [];

  constructor(work) {
    if (typeof work !== "function") throw new TypeError("a promise is made of a function (resolve, reject)");
    const [resolve, reject] = this.#settlers();
    try {
      work(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  /** Of each pair only the first call counts. */
  #settlers() {
    let called = false;
    const once = (work) => (value) => {
      if (called) return;
      called = true;
      work(value);
    };
    return [once((value) => this.#resolve(value)), once((error) => this.#settle("rejected", error))];
  }

  #resolve(value) {
    if (value === this) return this.#settle("rejected", new TypeError("a promise cannot wait for itself"));
    if (!isObject(value)) return this.#settle("fulfilled", value);
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle("rejected", error);
    }
    if (typeof then !== "function") return this.#settle("fulfilled", value);
    jobs.push(() => {
      const [resolve, reject] = this.#settlers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    for (const reaction of this.#reactions) jobs.push(reaction);
    this.#reactions = [];
  }

  then(fulfilled, rejected) {
    return new Promises((resolve, reject) => {
      const react = () => {
        const good = this.#state === "fulfilled";
        const work = good ? fulfilled : rejected;
        try {
          if (typeof work === "function") resolve(work(this.#value));
          else if (good) resolve(this.#value);
          else reject(this.#value);
        } catch (error) {
          reject(error);
        }
      };
      if (this.#state === "pending") this.#reactions.push(react);
      else jobs.push(react);
    });
  }

  catch(rejected) {
    return this.then(undefined, rejected);
  }

  finally(work) {
    if (typeof work !== "function") return this.then();
    return this.then(
      (value) => Promises.resolve(work()).then(() => value),
      (error) =>
        Promises.resolve(work()).then(() => {
          throw error;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static resolve(value) {
    return value instanceof Promises ? value : new Promises((resolve) => resolve(value));
  }

  static reject(error) {
    return new Promises((_, reject) => reject(error));
  }

  static try(work, ...parts) {
    return new Promises((resolve) => resolve(work(...parts)));
  }

  static withResolvers() {
    let settlers;
    const promise = new Promises((resolve, reject) => (settlers = { resolve, reject }));
    return { promise, ...settlers };
  }

  static all(values) {
    return each(values, (promise, put, { reject }) => promise.then(put, reject));
  }

  static allSettled(values) {
    return each(values, (promise, put) =>
      promise.then(
        (value) => put({ status: "fulfilled", value }),
        (reason) => put({ status: "rejected", reason }),
      ),
    );
  }

  static any(values) {
    const failed = ({ reject }, errors) => reject(new AggregateError(errors, "all promises were rejected"));
    return each(values, (promise, put, { resolve }) => promise.then(resolve, put), failed);
  }

  static race(values) {
    return new Promises((resolve, reject) => {
      for (const value of values) Promises.resolve(value).then(resolve, reject);
    });
  }

  /** What came of `promise` once there is nothing left to do. */
  static ended(promise) {
    const whole = Promises.resolve(promise);
    drain();
    if (whole.#state === "fulfilled") return whole.#value;
    if (whole.#state === "rejected") throw whole.#value;
    throw new Stuck("the function waits for something that never comes: there are no timers and no network here");
  }
}

/** `wait` puts down what becomes of each, unless it settles the whole; `end` settles it once all are put down. */
function each(values, wait, end = ({ resolve }, made) => resolve(made)) {
  return new Promises((resolve, reject) => {
    const whole = { resolve, reject };
    const made = [];
    let left = 1;
    const done = () => {
      if (--left === 0) end(whole, made);
    };
    for (const value of values) {
      left++;
      const at = made.push(undefined) - 1;
      wait(
        Promises.resolve(value),
        (came) => {
          made[at] = came;
          done();
        },
        whole,
      );
    }
    done();
  });
}

function drain() {
  // Jobs make jobs: what is done is let go of piece by piece.
  while (jobs.length > 0) {
    const piece = jobs.splice(0);
    for (let at = 0; at < piece.length; at++) piece[at]();
  }
}

/** For engines that run no jobs: what such a promise comes to; for others the promise. */
export const waited = converts ? (promise) => promise : (promise) => Promises.ended(promise);

if (!converts) {
  globalThis.Promise = Promises;
  globalThis.queueMicrotask = (work) => void jobs.push(work);
}

// Between the interpreter and the UART: makes of what MicroPython prints here what a chip would send, and brings it the
// Ctrl-C that it cannot receive while a program runs.

import fs from "node:fs";
import { performance } from "node:perf_hooks";
import { uart } from "./wire.mjs";

const INTERRUPTS = Number(process.argv[2]);
const CTRL_C = 3;
const CHECK_MS = 5;
const TRACE = '  File "';

// What is C on a chip leaves no line in a traceback; the start-up scripts do.
export const HIDDEN = /^  File "(_files|_gc|_link|_sys|esp|machine|network|webrepl)\.py", line /;

// The interpreter and where its REPL is: `mode` is "friendly" or "raw", `inScripts` that the board's own scripts run,
// `swallowed` a text of the REPL that is not to be seen the next time.
export const repl = { interpreter: null, facts: null, mode: "friendly", inScripts: false, swallowed: null };

let lastByte = 0;
let trace = null; // a line of a traceback, which comes in pieces
let checkedAt = 0;

export function startAfresh() {
    lastByte = 0;
    trace = null;
}

// How many times Ctrl-C came since this was last asked.
export function interruptsCaught() {
    const bytes = Buffer.alloc(64);
    try {
        return fs.readSync(INTERRUPTS, bytes, 0, bytes.length, null);
    } catch (error) {
        if (error.code === "EAGAIN") {
            return 0;
        }
        throw error;
    }
}

// Raise KeyboardInterrupt in the running program if Ctrl-C came; asked often, so it looks only now and then.
export function checkForInterrupt(atOnce = false) {
    const now = performance.now();
    if (!atOnce && now - checkedAt < CHECK_MS) {
        return false;
    }
    checkedAt = now;
    if (interruptsCaught() === 0) {
        return false;
    }
    repl.interpreter._module._mp_sched_keyboard_interrupt();
    return true;
}

// Whether a program is talking, or the REPL itself: the interrupt character is Ctrl-C exactly while a program runs.
function programRuns() {
    return repl.inScripts || repl.interpreter?._module._mp_hal_get_interrupt_char() === CTRL_C;
}

// One write of the interpreter to its stdout.
export function printed(bytes) {
    const text = bytes.toString("latin1");
    if (trace === null && text === TRACE) {
        trace = text;
    } else if (trace === null) {
        show(bytes, text);
    } else {
        trace += text;
        if (text.endsWith("\n")) {
            const line = trace;
            trace = null;
            if (!HIDDEN.test(line)) {
                show(Buffer.from(line, "latin1"), line);
            }
        }
    }
}

function show(bytes, text) {
    if (programRuns()) {
        checkForInterrupt();
        // A program's print() leaves the CR to us; what the interpreter's C code prints has it, in a write of its own.
        uart.send(withReturns(bytes, text === "\r\n" || text.startsWith(TRACE)));
    } else if (text === repl.swallowed) {
        repl.swallowed = null;
    } else if (/^MicroPython v[0-9.]+ on [0-9-]+$/.test(text)) {
        uart.send(Buffer.from(`MicroPython ${repl.facts.version}`));
    } else if (text === "; JS with Emscripten") {
        uart.send(Buffer.from(`; ${repl.facts.machine}`));
    } else {
        if (text === "raw REPL; CTRL-B to exit\r\n") {
            repl.mode = "raw";
        }
        uart.send(withReturns(bytes, true));
        if (text === "OK") {
            uart.flush(); // before a program that may say nothing for long
        }
    }
}

// CR LF for every LF; with `keepPairs` not for one that has its CR already.
export function withReturns(bytes, keepPairs) {
    const out = [];
    for (const byte of bytes) {
        if (byte === 10 && !(keepPairs && lastByte === 13)) {
            out.push(13);
        }
        out.push(byte);
        lastByte = byte;
    }
    return out;
}

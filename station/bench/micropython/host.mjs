// One virtual board's firmware: the real MicroPython interpreter, and what a chip's C code adds to it.
//
// Runs under node as a child of station/bench/interpreter.py, one process per running board, entirely synchronous: it
// blocks for its parent like the interpreter of a chip blocks for its UART, so it can be killed at any moment and never
// outlives its parent. It speaks with it in the frames of wire.mjs. The first argument is the fd of a non-blocking pipe: a
// byte in it is a Ctrl-C for the running program.

import fs from "node:fs";
import { performance } from "node:perf_hooks";
import { HIDDEN, checkForInterrupt, interruptsCaught, printed, repl, startAfresh, withReturns } from "./console.mjs";
import { readFrame, uart, writeFrame } from "./wire.mjs";

const CTRL_A = 1;
const CTRL_B = 2;
const CTRL_C = 3;
const CTRL_D = 4;
const CTRL_E = 5;
const FORCED_EXIT = 0x100; // PYEXEC_FORCED_EXIT: an empty Ctrl-D or SystemExit, both a soft reset
const WINDOW = 128; // of raw paste: half of the 256 bytes that the ESP8266's UART ring holds
const HEAP_BYTES = 64 * 1024;
const SLEEP_SLICE_MS = 20;

// ---- the interpreter: its stdout and its interrupts

const settings = JSON.parse(readFrame("s").toString());
repl.facts = settings.facts;
repl.mode = settings.mode;
const instantiate = WebAssembly.instantiate;
let compiled = null;

WebAssembly.instantiate = async (binary, imports) => {
    compiled ??= await WebAssembly.compile(binary);
    let memory = null;
    const wasi = imports.wasi_snapshot_preview1;
    const writeElsewhere = wasi.fd_write;
    wasi.fd_write = (fd, vectors, count, written) => {
        if (fd !== 1 && fd !== 2) {
            return writeElsewhere(fd, vectors, count, written);
        }
        const view = new DataView(memory.buffer);
        let total = 0;
        for (let index = 0; index < count; index++) {
            const start = view.getUint32(vectors + 8 * index, true);
            const length = view.getUint32(vectors + 8 * index + 4, true);
            printed(Buffer.from(memory.buffer.slice(start, start + length)));
            total += length;
        }
        view.setUint32(written, total, true);
        return 0;
    };
    const instance = await instantiate(compiled, imports);
    memory = instance.exports.memory;
    return { instance, module: compiled };
};

// ---- what the board's own modules call (board/_link.py)

let keys = Buffer.alloc(0);
const clock = new Int32Array(new SharedArrayBuffer(4));

const host = {
    facts: () => JSON.stringify({ ...settings.facts, resumed: settings.resume }),
    call(text) {
        uart.flush();
        writeFrame("c", Buffer.from(text));
        const answer = readFrame("a").toString();
        checkForInterrupt();
        return answer;
    },
    sleep(milliseconds) {
        uart.flush();
        const end = performance.now() + milliseconds;
        for (let left = milliseconds; left > 0; left = end - performance.now()) {
            Atomics.wait(clock, 0, 0, Math.min(left, SLEEP_SLICE_MS));
            if (checkForInterrupt()) {
                return;
            }
        }
    },
    // From here on a Ctrl-C interrupts.
    interruptible() {
        writeFrame("p", Buffer.alloc(0));
    },
    // The next byte that is typed, or -1 when Ctrl-C came instead.
    key() {
        if (keys.length === 0) {
            uart.flush();
            writeFrame("k", Buffer.alloc(0));
            keys = readFrame("i");
        }
        if (keys.length === 0) {
            checkForInterrupt(true);
            return -1;
        }
        const byte = keys[0];
        keys = keys.subarray(1);
        return byte;
    },
    // Bytes as they are, in hexadecimal: sys.stdout.buffer.
    write(text) {
        checkForInterrupt();
        uart.send(Buffer.from(text, "hex"));
    },
};

function wantInput() {
    let bytes = keys;
    keys = Buffer.alloc(0);
    if (bytes.length === 0) {
        uart.flush();
        writeFrame("w", Buffer.from(repl.mode));
        bytes = readFrame("i");
    }
    // A Ctrl-C that came after the program had ended is one for the prompt.
    return interruptsCaught() > 0 ? Buffer.concat([Buffer.from([CTRL_C]), bytes]) : bytes;
}

// ---- one life of the interpreter, from its start to the next soft reset

async function load() {
    repl.interpreter = null;
    startAfresh();
    repl.interpreter = await loadMicroPython({ linebuffer: false, stdout: () => {}, heapsize: HEAP_BYTES });
    repl.interpreter.registerJsModule("_host", host);
    const folder = new URL("./board/", import.meta.url);
    for (const name of fs.readdirSync(folder)) {
        if (name.endsWith(".py")) {
            repl.interpreter.FS.writeFile(`/${name}`, fs.readFileSync(new URL(name, folder)));
        }
    }
}

// Run something of the board's own outside the REPL; false when it ends the program for a soft reset.
function runScript(script) {
    repl.inScripts = true;
    try {
        script();
        return true;
    } catch (error) {
        if (error.name !== "PythonError") {
            throw error;
        }
        // The first line names our call of the script, which a chip makes in C.
        const text = error.message.replace(/  File "<stdin>", line 1, in <module>\n/, "");
        if (error.type !== "SystemExit") {
            const lines = text.split(/(?<=\n)/).filter((line) => !HIDDEN.test(line));
            uart.send(withReturns(Buffer.from(lines.join("")), false));
        }
        return error.type !== "SystemExit";
    } finally {
        repl.inScripts = false;
    }
}

// As main.c does it: the board's own start cannot be interrupted (it switches that on itself where it must), the
// scripts can. False when one of them ends in a soft reset.
function boot() {
    writeFrame("b", Buffer.from(repl.mode));
    let board = null;
    if (!runScript(() => (board = repl.interpreter.pyimport("_boot")))) {
        return false;
    }
    host.interruptible();
    const scripts = repl.mode === "friendly" ? ["boot.py", "main.py"] : ["boot.py"];
    for (const name of scripts) {
        const script = () => board?.has(name) && repl.interpreter.runPython(`execfile("${name}")`);
        if (!runScript(script)) {
            return false;
        }
    }
    return true;
}

// The same board after its program had to be killed to obey a Ctrl-C: nothing is run, the prompt comes back.
function resume() {
    const traceback = 'Traceback (most recent call last):\r\n  File "<stdin>", line 1, in <module>\r\nKeyboardInterrupt: \r\n';
    uart.muted = true;
    runScript(() => repl.interpreter.pyimport("_boot"));
    repl.interpreter.replInit();
    if (repl.mode === "raw") {
        repl.interpreter.replProcessChar(CTRL_A);
    }
    uart.muted = false;
    uart.send(Buffer.from(repl.mode === "raw" ? `\x04${traceback}\x04>` : `${traceback}>>> `));
}

function startRepl(afterSoftReset) {
    if (repl.mode === "friendly") {
        repl.swallowed = afterSoftReset ? "\r\n" : null;
        repl.interpreter.replInit();
        return;
    }
    uart.muted = true;
    repl.interpreter.replInit();
    uart.muted = false;
    repl.swallowed = "\r\n";
    repl.interpreter.replProcessChar(CTRL_A);
}

function feed(bytes) {
    let result = 0;
    for (const byte of bytes) {
        result |= repl.interpreter.replProcessChar(byte);
    }
    return (result & FORCED_EXIT) !== 0;
}

// Between two programs: collect, and let a Ctrl-C that the last one was too quick for come to nothing.
function settle(heap) {
    for (;;) {
        try {
            heap.settle();
            heap.measure();
            return;
        } catch (error) {
            if (error.type !== "KeyboardInterrupt") {
                throw error;
            }
        }
    }
}

// Feed the REPL until it asks for a soft reset. A raw line is kept here until its Ctrl-D, because this build of the
// interpreter cannot do raw paste: it would wait for ever for a character that only JavaScript could bring.
function runRepl() {
    let line = [];
    const heap = repl.interpreter.pyimport("_gc");
    settle(heap);
    for (;;) {
        if (repl.mode === "raw") {
            settle(heap);
        }
        for (const byte of wantInput()) {
            if (repl.mode === "friendly") {
                if (feed([byte])) {
                    return;
                }
            } else if (pasting !== null) {
                if (paste(byte)) {
                    return;
                }
            } else if (byte === CTRL_A && line.length === 2 && line[0] === CTRL_E) {
                startPaste(line[1]);
                line = [];
            } else if (byte === CTRL_A || byte === CTRL_B || byte === CTRL_C) {
                line = [];
                repl.mode = byte === CTRL_B ? "friendly" : "raw";
                feed([byte]);
            } else if (byte !== CTRL_D) {
                line.push(byte);
            } else {
                const code = line;
                line = [];
                if (execute(code)) {
                    return;
                }
            }
        }
    }
}

function execute(code) {
    const lies = settings.facts.fake_pass && code.length > 0;
    return feed([...(lies ? Buffer.from("print('PASS')") : code), CTRL_D]);
}

let pasting = null;

function startPaste(letter) {
    if (letter !== "A".charCodeAt(0)) {
        uart.send(Buffer.from("R\x00>", "latin1"));
        return;
    }
    pasting = { code: [], window: WINDOW };
    uart.send([..."R\x01"].map((c) => c.charCodeAt(0)).concat([WINDOW, 0, 1]));
}

function paste(byte) {
    const { code } = pasting;
    if (byte === CTRL_C) {
        pasting = null;
        uart.send(Buffer.from("\x04\x04KeyboardInterrupt: \r\n\x04>"));
        return false;
    }
    if (byte === CTRL_D) {
        pasting = null;
        uart.send([CTRL_D]);
        uart.flush();
        repl.swallowed = "OK";
        return execute(code.length > 0 ? code : [10]);
    }
    // Ctrl-A and Ctrl-B are plain characters here, and in Python's grammar an error; the raw REPL would obey them.
    code.push(byte === CTRL_A || byte === CTRL_B ? CTRL_E : byte);
    pasting.window -= 1;
    if (pasting.window === 0) {
        pasting.window = WINDOW;
        uart.send([1]);
    }
    return false;
}

async function main() {
    console.error = () => {}; // the loader's remarks about memory that cannot grow; the program gets a MemoryError
    await import("./vendor/micropython.mjs");
    for (let afterSoftReset = false; ; afterSoftReset = true) {
        await load();
        if (settings.resume) {
            resume();
            settings.resume = false;
            runRepl();
        } else if (boot()) {
            startRepl(afterSoftReset);
            runRepl();
        }
        host.call('["board.soft_reset"]');
        uart.send(Buffer.from("MPY: soft reboot\r\n"));
    }
}

main().catch((error) => {
    const text = String(error.stack ?? error);
    process.stderr.write(`virtual board: its interpreter failed: ${text.slice(-600)}\n`);
    process.exit(70);
});

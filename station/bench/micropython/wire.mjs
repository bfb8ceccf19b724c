// The wire between a virtual board's interpreter and the bench: frames, and in them what the UART sends.
//
// A frame is a letter, a length (u32, little-endian) and a payload:
//   to us (fd 0):   s settings (JSON, first), i input for the REPL or keys for a program, a answer to a call (JSON)
//   from us (fd 1): o output of the UART, c call (JSON), w wants input, k wants keys for a running program,
//                   b boot begins, p a program begins that Ctrl-C may interrupt
//                   (the payload of w and b is the REPL's mode, "raw" or "friendly")
// Both directions block; when the other end is gone, so are we.

import fs from "node:fs";
import { performance } from "node:perf_hooks";

const PACKET_BYTES = 1024;
const FLUSH_MS = 5;

function readExactly(length) {
    const bytes = Buffer.alloc(length);
    let taken = 0;
    while (taken < length) {
        const n = fs.readSync(0, bytes, taken, length - taken, null);
        if (n === 0) {
            process.exit(0); // the parent is gone
        }
        taken += n;
    }
    return bytes;
}

// The payload of the next frame, which has to be of this kind.
export function readFrame(kind) {
    const head = readExactly(5);
    if (head.toString("latin1", 0, 1) !== kind) {
        throw new Error(`the bench sent ${head.toString("latin1", 0, 1)} where ${kind} was due`);
    }
    return readExactly(head.readUInt32LE(1));
}

export function writeFrame(kind, payload) {
    const bytes = Buffer.concat([Buffer.from(kind), Buffer.alloc(4), payload]);
    bytes.writeUInt32LE(payload.length, 1);
    try {
        for (let sent = 0; sent < bytes.length; ) {
            sent += fs.writeSync(1, bytes, sent);
        }
    } catch (error) {
        if (error.code !== "EPIPE") {
            throw error;
        }
        process.exit(0); // the parent is gone
    }
}

// The UART's transmitter. What is sent leaves in packets; a line, and what waits longest, at once.
export const uart = {
    held: [],
    heldBytes: 0,
    flushedAt: 0,
    muted: false,
    send(bytes) {
        if (this.muted || bytes.length === 0) {
            return;
        }
        this.held.push(Buffer.from(bytes));
        this.heldBytes += bytes.length;
        // A program that hangs after its last line has still sent that line.
        if (this.heldBytes >= PACKET_BYTES || bytes.includes(10) || performance.now() - this.flushedAt > FLUSH_MS) {
            this.flush();
        }
    },
    flush() {
        this.flushedAt = performance.now();
        if (this.heldBytes > 0) {
            const all = Buffer.concat(this.held);
            this.held = [];
            this.heldBytes = 0;
            writeFrame("o", all);
        }
    },
};

// The committed vectors' CIDs decode in the JavaScript multiformats library and name what they say they name.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { blake3 } from "@noble/hashes/blake3";
import { base32 } from "multiformats/bases/base32";
import { CID } from "multiformats/cid";

const BLAKE3 = 0x1e;
const RAW = 0x55;
const DAG_CBOR = 0x71;

const folder = new URL("../../test-data/objects/v1/", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder));
const { objects } = JSON.parse(read("objects.json"));

test("objects' CIDs are CIDv1, dag-cbor, BLAKE3 of the manifest's root", () => {
  assert.equal(objects.length, 6);
  for (const object of objects) {
    const cid = CID.parse(object.cid);
    assert.equal(cid.version, 1);
    assert.equal(cid.code, DAG_CBOR);
    assert.equal(cid.multihash.code, BLAKE3);
    assert.equal(cid.multihash.size, 32);
    assert.deepEqual(cid.multihash.digest, blake3(Buffer.from(object.root, "hex")), object.name);
    assert.equal(cid.toString(base32), object.cid);
    assert.deepEqual(CID.decode(cid.bytes), cid);
  }
});

test("the CIDs inside a manifest are CIDv1, raw, BLAKE3 of the chunk", () => {
  for (const name of ["empty", "one-byte", "one-block", "two-blocks"]) {
    const object = objects.find((object) => object.name === name);
    const chunk = read(object.chunks_file);
    // Tag 42 over a byte string of 37 bytes that begins with zero: d8 2a 58 25 00.
    const root = Buffer.from(object.root, "hex");
    const at = root.indexOf(Buffer.from("d82a582500", "hex"));
    assert.notEqual(at, -1, name);
    const cid = CID.decode(root.subarray(at + 5, at + 41));
    assert.equal(cid.code, RAW);
    assert.equal(cid.multihash.code, BLAKE3);
    assert.deepEqual(cid.multihash.digest, blake3(chunk), name);
    assert.equal(CID.parse(cid.toString()).equals(cid), true);
  }
});

test("a CID that was altered is another one, or none", () => {
  const { cid, root } = objects[0];
  const altered = `${cid.slice(0, 20)}${cid[20] === "a" ? "b" : "a"}${cid.slice(21)}`;
  assert.notDeepEqual(CID.parse(altered).multihash.digest, blake3(Buffer.from(root, "hex")));
  assert.throws(() => CID.parse(cid.slice(0, -3)));
});

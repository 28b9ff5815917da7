// Text to the ids of byte-level BPE, as the `tokenizers` library makes them.
//
// Tables made by tokenizer/cuts.py cut the text into words. Within a word neighbours are merged, the
// pair that was learned first before the others, and of equal ones the leftmost.
#pragma once

#include <algorithm>
#include <functional>

#include "arena.h"

namespace {

constexpr int ID_BITS = 21, RANK_BITS = 22;  // two ids and a rank make 64 bits
constexpr uint32_t NO_RANK = (1u << RANK_BITS) - 1, NO_ID = ~0u;
constexpr uint64_t NO_PAIR = ~0ull;
constexpr int PLACE_BITS = 8;  // a rank and a place make 30 bits
constexpr long SHORT = 1 << PLACE_BITS;
constexpr long KEY = 15;   // bytes of the longest word that the cache takes
constexpr int CACHED = 4;  // ids of it, at most
constexpr int AHEAD = 32;  // words whose places in the cache are asked for before they are looked at
constexpr uint32_t N_CHARACTERS = 1 << 16;  // code points of up to three bytes
constexpr bool LITTLE = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

// What the bytes of one character become by themselves; n = 0: it depends on others.
struct Character {
    uint32_t ids[3], n;
};

// Two to a cache line, the one that was used last in front.
struct CachedWord {
    uint64_t key[2];  // up to KEY bytes and their number; 0: free
    uint32_t ids[CACHED];
};

struct Bpe {
    long n_cuts, stride;
    const uint8_t* classes;  // by code point; stride - 2 of them, the last two are below
    const uint16_t* tables;  // the place of the next state's row << 1 | whether a match ended here
    const uint16_t* starts;  // (n_cuts,) places of rows, in which `inside` goes to the row at 0, the end

    long n_merges, n_whole, longest_whole;
    const uint32_t* merges;  // (3, n_merges): left, right, both; in the order of their making
    const uint32_t* byte_ids;  // (256,) NO_ID for a byte that is left out of every text
    const uint8_t* token_bytes;
    const int64_t* token_ends;  // token i has the bytes from ends[i] to ends[i + 1]
    const uint32_t* whole;      // (n_whole,) tokens that a word becomes without merges

    long pair_bits, whole_bits;  // from here on, bpe_index fills what was all zeros
    uint64_t multiplier;         // odd
    uint64_t* pairs;             // (1 << pair_bits,)
    uint32_t* whole_slots;       // (1 << whole_bits,) id + 1
    Character* characters;       // (N_CHARACTERS,)
    uint64_t* joins;             // (256, 4) bits, see `Merger::joined`

    long n, cache_bits;
    const uint8_t* text;  // (n,) valid UTF-8
    char* cache;          // of words, 64 << cache_bits bytes and 64 to begin at a cache line
    uint32_t* ids;        // (n + CACHED,)
    long* n_ids;
};

inline uint64_t load8(const uint8_t* from) {
    uint64_t x;
    memcpy(&x, from, 8);
    return x;
}

inline uint64_t hash_bytes(const uint8_t* bytes, long n, uint64_t multiplier, long bits) {
    uint64_t h = uint64_t(n);
    for (; n >= 8; bytes += 8, n -= 8) h = (h ^ load8(bytes)) * multiplier, h ^= h >> 32;
    uint64_t rest = 0;
    memcpy(&rest, bytes, size_t(n));
    return (h ^ rest) * multiplier >> (64 - bits);
}

inline bool continues(uint8_t byte) { return (byte & 0xC0) == 0x80; }

inline int length_of(uint8_t first) { return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4; }

// The code point of a character of n bytes.
inline uint32_t code_of(const uint8_t* t, int n) {
    if (n == 1) return *t;
    uint32_t code = *t & (0xFF >> (n + 1));
    for (int k = 1; k < n; k++) code = code << 6 | (t[k] & 0x3F);
    return code;
}

// Words to ids.
class Merger {
  public:
    explicit Merger(const Bpe& a) : a(a), merged(a.merges + 2 * a.n_merges) {
        complete = std::find(a.byte_ids, a.byte_ids + 256, NO_ID) == a.byte_ids + 256;
    }

    void index() {
        const uint64_t last_pair = (1ull << a.pair_bits) - 1, last = (1ull << a.whole_bits) - 1;
        for (uint64_t slot = 0; slot <= last_pair; slot++) a.pairs[slot] = NO_PAIR;
        for (long r = 0; r < a.n_merges; r++) {
            const uint64_t pair = pair_of(a.merges[r], a.merges[a.n_merges + r]);
            uint64_t slot = hash_pair(pair);
            while (a.pairs[slot] != NO_PAIR) slot = (slot + 1) & last_pair;
            a.pairs[slot] = pair << RANK_BITS | uint64_t(r);
        }
        for (long k = 0; k < a.n_whole; k++) {
            const uint8_t* bytes = a.token_bytes + a.token_ends[a.whole[k]];
            uint64_t slot = hash_bytes(bytes, length(a.whole[k]), a.multiplier, a.whole_bits);
            while (a.whole_slots[slot]) slot = (slot + 1) & last;
            a.whole_slots[slot] = a.whole[k] + 1;
        }
        index_characters();
    }

    // The ids of a word, written to `out`; their number, or -1 where memory is short.
    long merge(const uint8_t* w, long n, uint32_t* out) const {
        if (n <= a.longest_whole) {
            const uint32_t id = find_whole(w, n);
            if (id != NO_ID) {
                *out = id;
                return 1;
            }
        }
        const long m = symbols_of(w, n, out);
        if (m < 2) return m;
        uint32_t highest;
        return m <= SHORT ? merge_short(out, m, &highest) : merge_long(out, m);
    }

  private:
    // Characters that become the same ids wherever they stand, unless they are `joined` to a
    // neighbour; together, because it saves most of the work in Chinese. Let c be such a character
    // and m the last of the merges within c. No merge takes a part of c with something beside it, and
    // none that takes the whole of it comes before m. So to merge within c first changes nothing.
    void index_characters() {
        uint32_t* last_merge = new uint32_t[N_CHARACTERS];
        for (uint32_t code = 0x80; code < N_CHARACTERS; code++) {
            uint8_t bytes[3] = {uint8_t(0xE0 | code >> 12), uint8_t(0x80 | (code >> 6 & 0x3F)),
                                uint8_t(0x80 | (code & 0x3F))};
            if (code < 0x800) bytes[1] = uint8_t(0xC0 | code >> 6);
            const long n = code < 0x800 ? 2 : 3;
            Character& c = a.characters[code];
            for (long i = 0; i < n; i++) c.ids[i] = a.byte_ids[bytes[3 - n + i]];
            if (std::find(c.ids, c.ids + n, NO_ID) == c.ids + n)
                c.n = uint32_t(merge_short(c.ids, n, &last_merge[code]));
        }
        for (long r = 0; r < a.n_merges; r++) {
            const uint32_t left = a.merges[r], right = a.merges[a.n_merges + r];
            const bool both = is_whole(left) && is_whole(right);
            for (uint32_t id : {left, right}) {
                const uint8_t* bytes = a.token_bytes + a.token_ends[id];
                const long n = length(id);
                if (n < 2 || n > 3 || !is_whole(id) || length_of(*bytes) != n) continue;
                const uint32_t code = code_of(bytes, int(n));
                if (last_merge[code] >= uint32_t(r)) a.characters[code].n = 0;
            }
            if (both || !length(left) || !length(right)) continue;
            const uint8_t first = a.token_bytes[a.token_ends[right]];
            const uint8_t last = a.token_bytes[a.token_ends[left + 1] - 1];
            if (!continues(first)) a.joins[last * 4 + first / 64] |= 1ull << first % 64;
        }
        delete[] last_merge;
    }

    long length(uint32_t id) const { return long(a.token_ends[id + 1] - a.token_ends[id]); }

    // Whether a token consists of whole characters.
    bool is_whole(uint32_t id) const {
        const uint8_t* t = a.token_bytes + a.token_ends[id];
        long left = length(id);
        while (left > 0 && !continues(*t)) {
            const int n = length_of(*t);
            t += n, left -= n;
        }
        return left == 0;
    }

    // Whether a merge may take a part of the character that ends with `last` with something of the
    // one that begins with `first`, or the other way round.
    bool joined(uint8_t last, uint8_t first) const {
        return a.joins[last * 4 + first / 64] >> first % 64 & 1;
    }

    // What merging begins with: bytes, and characters that are ready.
    long symbols_of(const uint8_t* w, long n, uint32_t* out) const {
        const uint32_t* const begin = out;
        bool before = false, ready = true;
        if (!complete)  // what is left out brings together what was apart
            for (long i = 0; i < n; i++) ready &= a.byte_ids[w[i]] != NO_ID;
        for (long i = 0; i < n;) {
            const int k = length_of(w[i]);
            const bool after = i + k < n && joined(w[i + k - 1], w[i + k]);
            const Character* c = nullptr;
            if (k == 2 || k == 3) c = a.characters + code_of(w + i, k);
            if (c && c->n && ready && !before && !after) {
                memcpy(out, c->ids, sizeof c->ids);  // there is room for three
                out += c->n;
            } else {
                for (int j = 0; j < k; j++) {
                    *out = a.byte_ids[w[i + j]];
                    out += *out != NO_ID;
                }
            }
            before = after;
            i += k;
        }
        return out - begin;
    }

    static uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t(left) << ID_BITS | right; }

    uint64_t hash_pair(uint64_t pair) const { return pair * a.multiplier >> (64 - a.pair_bits); }

    uint32_t find_whole(const uint8_t* w, long n) const {
        const uint64_t last = (1ull << a.whole_bits) - 1;
        for (uint64_t slot = hash_bytes(w, n, a.multiplier, a.whole_bits);; slot = (slot + 1) & last) {
            if (!a.whole_slots[slot]) return NO_ID;
            const uint32_t id = a.whole_slots[slot] - 1;
            if (length(id) == n && !memcmp(a.token_bytes + a.token_ends[id], w, size_t(n))) return id;
        }
    }

    uint32_t rank(uint32_t left, uint32_t right) const {
        const uint64_t pair = pair_of(left, right), last = (1ull << a.pair_bits) - 1;
        for (uint64_t slot = hash_pair(pair);; slot = (slot + 1) & last) {
            const uint64_t found = a.pairs[slot];
            if (found >> RANK_BITS == pair) return uint32_t(found) & NO_RANK;
            if (found == NO_PAIR) return NO_RANK;
        }
    }

    // Merge in place; every round looks at all ranks, the fastest for the words that there are.
    // The highest rank that was merged is left in `highest`, 0 where there was none.
    long merge_short(uint32_t* symbols, long n, uint32_t* highest) const {
        uint32_t ranks[SHORT + W];
        *highest = 0;
        for (long i = 0; i < n - 1; i++) ranks[i] = rank(symbols[i], symbols[i + 1]);
        for (long i = n - 1; i < n + W; i++) ranks[i] = NO_RANK;
        for (;;) {
            const uint32_t best = lowest(ranks, n);
            const uint32_t least = best >> PLACE_BITS;
            if (least == NO_RANK) return n;
            *highest = std::max(*highest, least);
            const long i = best & (SHORT - 1);
            symbols[i] = merged[least];
            n--;
            memmove(symbols + i + 1, symbols + i + 2, size_t(n - i - 1) * sizeof *symbols);
            memmove(ranks + i + 1, ranks + i + 2, size_t(n - i - 1) * sizeof *ranks);
            ranks[i] = i + 1 < n ? rank(symbols[i], symbols[i + 1]) : NO_RANK;
            if (i > 0) ranks[i - 1] = rank(symbols[i - 1], symbols[i]);
        }
    }

    // The least rank and the first place that has it, in one number.
    static uint32_t lowest(const uint32_t* ranks, long n) {
        if (n <= 16) {  // a vector would wait for the numbers that were just written
            uint32_t least = ~0u;
            for (long i = 0; i < n; i++) least = std::min(least, ranks[i] << PLACE_BITS | uint32_t(i));
            return least;
        }
        Words place = all(0u), best = all(~0u);
        for (int k = 0; k < W; k++) place[k] = uint32_t(k);
        for (long i = 0; i < n; i += W, place += all(uint32_t(W))) {
            const Words both = load<Words>(ranks + i) << PLACE_BITS | place;
            best = both < best ? both : best;
        }
        uint32_t least = best[0];
        for (int k = 1; k < W; k++) least = std::min(least, uint32_t(best[k]));
        return least;
    }

    // The same with a heap of pairs: n log n also for a word of a megabyte.
    long merge_long(uint32_t* symbols, long n) const {
        if (n > long(NO_ID)) return -1;
        Arena arena(n * 28 + 4 * 64);
        if (!arena.base) return -1;
        uint32_t *ranks = arena.take<uint32_t>(n), *before = arena.take<uint32_t>(n);
        uint32_t* after = arena.take<uint32_t>(n);
        uint64_t* heap = arena.take<uint64_t>(2 * n);  // a merge takes one pair and adds two
        long size = 0;
        const auto later = std::greater<uint64_t>();
        const auto renew = [&](uint32_t i) {  // the pair that begins at i
            ranks[i] = after[i] < n ? rank(symbols[i], symbols[after[i]]) : NO_RANK;
            if (ranks[i] != NO_RANK) heap[size++] = uint64_t(ranks[i]) << 32 | i;
            return ranks[i] != NO_RANK;
        };
        for (long i = 0; i < n; i++) {
            before[i] = uint32_t(i - 1), after[i] = uint32_t(i + 1);
            renew(uint32_t(i));
        }
        std::make_heap(heap, heap + size, later);
        while (size) {
            std::pop_heap(heap, heap + size--, later);
            const uint32_t i = uint32_t(heap[size]), least = uint32_t(heap[size] >> 32);
            if (ranks[i] != least) continue;  // one of the two was merged with another
            const uint32_t gone = after[i];
            symbols[i] = merged[least];
            ranks[gone] = NO_RANK;
            after[i] = after[gone];
            if (after[i] < n) before[after[i]] = i;
            if (renew(i)) std::push_heap(heap, heap + size, later);
            if (i > 0 && renew(before[i])) std::push_heap(heap, heap + size, later);
        }
        long m = 0;
        for (long i = 0; i < n; i = after[i]) symbols[m++] = symbols[i];
        return m;
    }

    const Bpe& a;
    const uint32_t* const merged;
    bool complete;  // every byte has an id
};

// A text to ids: cuts it, and keeps what words became.
class BpeEncoder {
  public:
    explicit BpeEncoder(const Bpe& a)
        : a(a), merger(a), end(a.text + a.n), inside(uint8_t(a.stride - 2)), out(a.ids) {
        const uintptr_t at = (uintptr_t)a.cache;
        cache = (CachedWord*)(at + (64 - at % 64) % 64);
    }

    bool run() {
        Arena arena(a.n);
        if (!arena.base) return false;
        kinds = arena.take<uint8_t>(a.n);
        classify();
        if (a.n) cut(0, 0, a.n);
        flush();
        *a.n_ids = out - a.ids;
        return !failed;
    }

  private:
    struct Word {
        const uint8_t* bytes;
        long n;
        uint64_t key[2];
        CachedWord* line;
    };

    // The class of each character at its first byte; its other bytes have the class `inside`.
    void classify() {
        for (long i = 0; i < a.n;) {
            const int n = length_of(a.text[i]);
            kinds[i] = a.classes[code_of(a.text + i, n)];
            for (int k = 1; k < n; k++) kinds[i + k] = inside;
            i += n;
        }
    }

    // Cut [from, to) by the tables from number `stage` on: matches and what lies between them.
    void cut(long stage, long from, long to) {
        if (stage == a.n_cuts) return add(a.text + from, to - from);
        const uint16_t* const begin = a.tables + a.starts[stage];
        long gap = from;
        for (long at = from; at < to;) {
            const long stop = begin[kinds[at]] ? match(a.starts[stage], at, to) : -1;
            if (stop < 0) {
                at++;
                continue;
            }
            if (gap < at) cut(stage + 1, gap, at);
            cut(stage + 1, at, stop);
            gap = at = stop;
        }
        if (gap < to) cut(stage + 1, gap, to);
    }

    // Where the match that begins at `at` ends; -1: none does.
    long match(uint32_t state, long at, long to) const {
        long stop = -1;
        for (; at < to; at++) {
            const uint32_t entry = a.tables[state + kinds[at]];
            if (entry & 1) stop = at;
            state = entry >> 1;
            if (!state) return stop;
        }
        return a.tables[state + inside + 1] & 1 ? to : stop;  // the class of the end
    }

    void add(const uint8_t* bytes, long n) {
        if (n_words == AHEAD) flush();
        Word& word = words[n_words++];
        word.bytes = bytes, word.n = n;
        if (n == 1 || n > KEY) return;  // nothing to look up
        load_key(word);
        const uint64_t h = (word.key[0] ^ word.key[1] * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93;
        word.line = cache + 2 * (h >> (64 - a.cache_bits));
        __builtin_prefetch(word.line, 1);
    }

    void load_key(Word& word) const {
        const uint8_t* w = word.bytes;
        const long n = word.n;
        uint64_t low = 0, high = 0;
        if (!LITTLE || end - w < 16) {
            memcpy(&low, w, size_t(std::min(n, 8l)));
            if (n > 8) memcpy(&high, w + 8, size_t(n - 8));
        } else if (n <= 8) {
            low = load8(w) & ~0ull >> (64 - 8 * n);
        } else {
            low = load8(w);
            high = load8(w + 8) & ~0ull >> (128 - 8 * n);
        }
        word.key[0] = low;
        word.key[1] = high | uint64_t(n) << (LITTLE ? 56 : 0);
    }

    void flush() {
        for (long k = 0; k < n_words; k++) {
            const Word& word = words[k];
            if (word.n == 1 || word.n > KEY)
                merge(word);
            else
                look_up(word);
        }
        n_words = 0;
    }

    void look_up(const Word& word) {
        CachedWord* line = word.line;
        if (!is(line[0], word)) {
            std::swap(line[0], line[1]);
            if (!is(line[0], word)) {
                const uint32_t* begin = out;
                merge(word);
                if (out - begin <= CACHED) keep(line[0], word, begin);
                return;
            }
        }
        const uint32_t* ids = line[0].ids;
        memcpy(out, ids, sizeof line[0].ids);  // there is room for what is not used
        out += (ids[0] != NO_ID) + (ids[1] != NO_ID) + (ids[2] != NO_ID) + (ids[3] != NO_ID);
    }

    static bool is(const CachedWord& kept, const Word& word) {
        return kept.key[0] == word.key[0] && kept.key[1] == word.key[1];
    }

    void keep(CachedWord& place, const Word& word, const uint32_t* begin) const {
        place.key[0] = word.key[0], place.key[1] = word.key[1];
        for (int k = 0; k < CACHED; k++) place.ids[k] = begin + k < out ? begin[k] : NO_ID;
    }

    void merge(const Word& word) {
        const long n = merger.merge(word.bytes, word.n, out);
        if (n < 0)
            failed = true;
        else
            out += n;
    }

    const Bpe& a;
    const Merger merger;
    const uint8_t* const end;
    const uint8_t inside;
    uint8_t* kinds = nullptr;
    uint32_t* out;
    CachedWord* cache;
    Word words[AHEAD];
    long n_words = 0;
    bool failed = false;
};

}  // namespace

/* C control of benchmarks/book.py: the same rows, the same trade hash, and the same idea as benchmarks/ladder_kernel.py,
 * which explains it: a level is a ring of orders, and a new order that rests and a cancel are one path without branches.
 * Built at run time where a C compiler is present and called through ctypes, timed from outside around one call.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TIERS = 4, FAR = 16, NEAR = 6 }; /* 64^4 prices; rows of look-ahead to the id's slot, to its node */

typedef struct {
    int32_t op, order_id, side, price, qty;
} Row;

typedef struct {
    int64_t trades, volume;
    uint64_t hash;
} Result;

typedef struct {
    uint32_t leaves, next, prev; /* the top bit of leaves is the side */
    int32_t order_id;
} Node;

typedef struct {
    Node *nodes; /* 0 is none, 1 ... prices are the anchors, orders follow */
    uint64_t *tier[TIERS];
    uint32_t *slot_of;
    int64_t first_id, fresh; /* fresh: first node that was never used */
    int64_t best[2]; /* what the limit of a buy, of a sell, must reach: lowest ask, ~highest bid */
} Book;

static const int64_t FAR_OFF = (int64_t)1 << 62;

/* Made and freed outside the timed part; all pages are touched here, as on the Python side. */
static void *touched(size_t bytes) {
    char *memory = malloc(bytes);
    memset(memory, 0, bytes);
    for (size_t i = 0; i < bytes; i += 4096) ((volatile char *)memory)[i] = 0;
    return memory;
}

Book *control_book_new(int64_t prices, int64_t ids, int64_t orders, int64_t first_id) {
    Book *book = calloc(1, sizeof(Book));
    book->nodes = touched((prices + orders + 2) * sizeof(Node));
    for (uint32_t i = 1; i <= prices; i++) book->nodes[i].next = book->nodes[i].prev = i;
    int64_t words = prices + 1;
    for (int k = 0; k < TIERS; k++) {
        words = (words + 63) / 64;
        book->tier[k] = calloc(words, 8);
    }
    book->slot_of = touched(ids * sizeof(uint32_t));
    book->fresh = prices + 1;
    book->first_id = first_id;
    book->best[0] = book->best[1] = FAR_OFF;
    return book;
}

void control_book_free(Book *book) {
    free(book->nodes);
    for (int k = 0; k < TIERS; k++) free(book->tier[k]);
    free(book->slot_of);
    free(book);
}

static inline uint64_t mix(uint64_t hash, int64_t x) { return (hash ^ (uint64_t)x) * 1099511628211ull; }

static inline uint64_t pick(uint64_t mask, uint64_t a, uint64_t b) { return b ^ ((a ^ b) & mask); }

static void occupy(Book *book, uint64_t word) {
    for (int k = 1; k < TIERS; k++) {
        uint64_t before = book->tier[k][word >> 6];
        book->tier[k][word >> 6] = before | 1ull << (word & 63);
        if (before) return;
        word >>= 6;
    }
}

static void vacate(Book *book, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t after = book->tier[k][at >> 6] & ~(1ull << (at & 63));
        book->tier[k][at >> 6] = after;
        if (after) return;
        at >>= 6;
    }
}

/* The nearest occupied price above (asks) or below (bids), as `best` has it. */
static int64_t next_best(const Book *book, uint64_t asks, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t bit = at & 63, word = book->tier[k][at >> 6];
        uint64_t bits = asks ? word >> bit >> 1 : word & ((1ull << bit) - 1);
        if (bits) {
            at = asks ? at + 1 + __builtin_ctzll(bits) : (at & ~63ull) + 63 - __builtin_clzll(bits);
            while (k--) {
                word = book->tier[k][at];
                at = (at << 6) + (asks ? __builtin_ctzll(word) : 63 - __builtin_clzll(word));
            }
            return asks ? (int64_t)at : ~(int64_t)at;
        }
        at >>= 6;
    }
    return FAR_OFF;
}

static inline void unlink_order(Node *nodes, uint64_t slot) {
    uint32_t before = nodes[slot].prev, after = nodes[slot].next;
    nodes[before].next = after;
    nodes[after].prev = before;
    nodes[slot].leaves = 0;
}

static inline int64_t match(Book *book, uint64_t side, uint64_t price, int64_t leaves, int64_t order_id, int64_t below,
                            Result *result) {
    Node *nodes = book->nodes;
    uint64_t flip = -side;
    while (leaves && (int64_t)(price ^ flip) >= book->best[side]) {
        uint64_t level = book->best[side] ^ flip, slot = nodes[level].next;
        if (slot == level) {
            vacate(book, level);
            book->best[side] = next_best(book, side ^ 1, level);
            continue;
        }
        Node *maker = &nodes[slot];
        int64_t rests = maker->leaves & 0x7fffffff, traded = leaves < rests ? leaves : rests;
        uint64_t hash = mix(mix(result->hash, maker->order_id), order_id);
        result->hash = mix(mix(hash, below + (int64_t)level), traded);
        result->trades++;
        result->volume += traded;
        leaves -= traded;
        if (traded < rests) {
            maker->leaves -= traded;
            break;
        }
        unlink_order(nodes, slot);
        __builtin_prefetch(&nodes[nodes[nodes[level].next].next], 1);
    }
    return leaves;
}

static inline __attribute__((always_inline)) void run(Book *book, const Row *rows, int64_t start, int64_t stop,
                                                      int look_ahead, int64_t base, Result *out) {
    Result result = *out;
    Node *nodes = book->nodes;
    uint32_t *slot_of = book->slot_of - book->first_id;
    uint64_t *bitmap = book->tier[0], fresh = book->fresh;
    int64_t below = base - 1, *best = book->best;
    for (int64_t i = start; i < stop; i++) {
        if (look_ahead) {
            __builtin_prefetch(&slot_of[rows[i + FAR].order_id], 1);
            __builtin_prefetch(&nodes[slot_of[rows[i + NEAR].order_id]], 1);
        }
        int64_t order_id = rows[i].order_id, quantity = rows[i].qty;
        uint64_t op = (uint32_t)rows[i].op, side = rows[i].side & 1, price = rows[i].price - below;
        uint64_t slot = slot_of[order_id], held = nodes[slot].leaves, leaves = held & 0x7fffffff;
        uint64_t enters = -(uint64_t)(op == 0);
        int reaches = (int64_t)(price ^ -side) >= best[side];
        if ((op > 1) | ((op == 0) & ((leaves != 0) | (quantity <= 0) | reaches))) {
            if (op == 0) {
                if (leaves || quantity <= 0) continue;
            } else if (op == 2 && quantity < (int64_t)leaves) {
                if (quantity > 0) nodes[slot].leaves = held - quantity;
                continue;
            } else {
                if (!leaves) continue;
                unlink_order(nodes, slot);
                if (op == 2 || quantity <= 0) continue;
                side = held >> 31;
                enters = -1;
            }
            quantity = match(book, side, price, quantity, order_id, below, &result);
            if (!quantity) continue;
            slot = 0;
        }
        nodes[slot].leaves = 0;
        uint64_t here = pick(enters, price, slot & -(uint64_t)(leaves != 0));
        uint64_t before = nodes[here].prev, after = nodes[here].next;
        nodes[fresh] = (Node){quantity | side << 31, here, before, order_id};
        nodes[before].next = pick(enters, fresh, after);
        nodes[pick(enters, here, after)].prev = pick(enters, fresh, before);
        slot_of[order_id] = fresh & enters;
        fresh -= enters;
        uint64_t bit = price & enters, word = bitmap[bit >> 6];
        bitmap[bit >> 6] = word | (enters & 1) << (bit & 63);
        if (!(word | ~enters)) occupy(book, bit >> 6);
        int64_t mine = best[side ^ 1], reached = pick(enters, price ^ (side - 1), mine);
        best[side ^ 1] = reached < mine ? reached : mine;
    }
    book->fresh = fresh;
    *out = result;
}

void control_book(Book *book, const Row *rows, int64_t n, int64_t base, Result *out) {
    int64_t body = n > FAR ? n - FAR : 0;
    *out = (Result){0, 0, 1469598103934665603ull};
    run(book, rows, 0, body, 1, base, out);
    run(book, rows, body, n, 0, base, out);
}

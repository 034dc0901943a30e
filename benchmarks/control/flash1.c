/* C control of benchmarks/flash1.py: the same job, as a good plain C program does it.
 *
 * A price ladder (one array of levels per side, indexed by tick), a FIFO list of orders per level, a three-level bitmap
 * of the occupied levels (64^3 = 262,144 ticks; wider bands add tiers), external ids resolved by direct indexing, all six
 * kinds of reports written as 24-byte records. Messages, reports and ids are laid out as in flash1.py; both sides of the
 * comparison get the same arrays, warm, and are timed from outside around one call.
 *
 * Nothing here is read by the Python side; `control_flash1` is called through ctypes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t type, side, ioc, pad;
    uint32_t qty, order_id, price;
} Message;

typedef struct {
    uint32_t seq, price, qty, order_id, taker_id;
    uint8_t kind, side;
    uint16_t pad;
} Report;

typedef struct {
    uint32_t leaves, next, prev, tick, order_id, side;
} Order;

typedef struct {
    uint32_t head, tail;
} Level;

enum { TIERS = 5, AHEAD = 16 };

typedef struct {
    Level *levels;
    uint64_t *tier[TIERS];
    int64_t best; /* -1 when the side is empty */
} Side;

typedef struct {
    Side side[2];
    Order *orders; /* slot 0 is none */
    uint32_t *slot_of;
    uint32_t free, unused;
    int64_t ticks;
} Book;

static void side_init(Side *side, int64_t ticks) {
    side->levels = calloc(ticks, sizeof(Level));
    int64_t words = ticks;
    for (int k = 0; k < TIERS; k++) {
        words = (words + 63) / 64;
        side->tier[k] = calloc(words, 8);
    }
    side->best = -1;
}

static void side_free(Side *side) {
    free(side->levels);
    for (int k = 0; k < TIERS; k++) free(side->tier[k]);
}

static inline void occupy(Side *side, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t before = side->tier[k][at >> 6];
        side->tier[k][at >> 6] = before | 1ull << (at & 63);
        if (before) return;
        at >>= 6;
    }
}

static inline void vacate(Side *side, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t after = side->tier[k][at >> 6] & ~(1ull << (at & 63));
        side->tier[k][at >> 6] = after;
        if (after) return;
        at >>= 6;
    }
}

/* Next occupied tick above (asks) or below (bids) a tick whose level is empty; -1 if none. */
static int64_t next_above(const Side *side, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t bit = at & 63, bits = bit == 63 ? 0 : side->tier[k][at >> 6] >> (bit + 1);
        if (bits) {
            at += 1 + __builtin_ctzll(bits);
            while (k--) at = (at << 6) + __builtin_ctzll(side->tier[k][at]);
            return at;
        }
        at >>= 6;
    }
    return -1;
}

static int64_t next_below(const Side *side, uint64_t at) {
    for (int k = 0; k < TIERS; k++) {
        uint64_t bits = side->tier[k][at >> 6] & ((1ull << (at & 63)) - 1);
        if (bits) {
            at = (at & ~63ull) + 63 - __builtin_clzll(bits);
            while (k--) at = (at << 6) + 63 - __builtin_clzll(side->tier[k][at]);
            return at;
        }
        at >>= 6;
    }
    return -1;
}

static inline void level_emptied(Side *side, uint32_t which, uint64_t tick) {
    vacate(side, tick);
    if (side->best == (int64_t)tick) side->best = which ? next_above(side, tick) : next_below(side, tick);
}

static inline void rest(Book *book, uint32_t which, uint32_t slot, uint32_t tick, uint32_t leaves) {
    Side *side = &book->side[which];
    Level *level = &side->levels[tick];
    Order *order = &book->orders[slot];
    uint32_t tail = level->tail;
    order->leaves = leaves;
    order->tick = tick;
    order->side = which;
    order->next = 0;
    order->prev = tail;
    level->tail = slot;
    if (tail) {
        book->orders[tail].next = slot;
        return;
    }
    level->head = slot;
    occupy(side, tick);
    if (side->best < 0 || (which ? tick < side->best : tick > side->best)) side->best = tick;
}

static inline void unlink_order(Book *book, uint32_t slot) {
    Order *order = &book->orders[slot];
    Side *side = &book->side[order->side];
    Level *level = &side->levels[order->tick];
    if (order->prev) book->orders[order->prev].next = order->next;
    else level->head = order->next;
    if (order->next) book->orders[order->next].prev = order->prev;
    else level->tail = order->prev;
    if (!level->head) level_emptied(side, order->side, order->tick);
}

static inline void release(Book *book, uint32_t slot) {
    book->slot_of[book->orders[slot].order_id] = 0;
    book->orders[slot].next = book->free;
    book->free = slot;
}

static inline Report *report(Report *out, uint8_t kind, uint32_t seq, uint8_t side, uint32_t order_id, uint32_t price,
                             uint32_t qty, uint32_t taker_id) {
    *out = (Report){seq, price, qty, order_id, taker_id, kind, side, 0};
    return out + 1;
}

/* Trade an incoming order against the other side; returns what is left of it. */
static inline uint32_t match(Book *book, uint32_t which, uint32_t tick, uint32_t leaves, uint32_t order_id, uint32_t seq,
                             uint32_t base, Report **out) {
    Side *other = &book->side[which ^ 1];
    while (leaves && other->best >= 0 && (which ? other->best >= tick : other->best <= tick)) {
        uint32_t best = other->best;
        Level *level = &other->levels[best];
        uint32_t slot = level->head;
        Order *maker = &book->orders[slot];
        uint32_t traded = leaves < maker->leaves ? leaves : maker->leaves;
        *out = report(*out, 1, seq, 0, maker->order_id, base + best, traded, order_id);
        leaves -= traded;
        maker->leaves -= traded;
        if (maker->leaves) break;
        level->head = maker->next;
        if (maker->next) book->orders[maker->next].prev = 0;
        else {
            level->tail = 0;
            level_emptied(other, which ^ 1, best);
        }
        release(book, slot);
    }
    return leaves;
}

static int64_t run(Book *book, const Message *messages, int64_t n, uint32_t base, Report *reports) {
    Report *out = reports;
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(&book->slot_of[messages[i + AHEAD].order_id], 1);
        const Message *m = &messages[i];
        if (m->type == 0) {
            out = report(out, 0, i, m->side, m->order_id, m->price, m->qty, 0);
            uint32_t left = match(book, m->side, m->price - base, m->qty, m->order_id, i, base, &out);
            if (!left) continue;
            if (m->ioc) {
                out = report(out, 2, i, m->side, m->order_id, m->price, 0, 0);
                continue;
            }
            uint32_t slot = book->free;
            if (slot) book->free = book->orders[slot].next;
            else slot = book->unused++;
            book->orders[slot].order_id = m->order_id;
            book->slot_of[m->order_id] = slot;
            rest(book, m->side, slot, m->price - base, left);
            continue;
        }
        uint32_t slot = book->slot_of[m->order_id];
        if (!slot) {
            out = report(out, m->type + 3, i, 0, m->order_id, 0, 0, 0);
        } else if (m->type == 1) {
            Order *order = &book->orders[slot];
            out = report(out, 2, i, order->side, m->order_id, base + order->tick, 0, 0);
            unlink_order(book, slot);
            release(book, slot);
        } else {
            unlink_order(book, slot);
            uint32_t left = match(book, m->side, m->price - base, m->qty, m->order_id, i, base, &out);
            out = report(out, 3, i, m->side, m->order_id, m->price, m->qty, 0);
            if (left) rest(book, m->side, slot, m->price - base, left);
            else release(book, slot);
        }
    }
    return out - reports;
}

/* A book is opaque to the caller: made and freed outside the timed part. */
Book *control_flash1_new(int64_t ticks, int64_t ids, int64_t orders) {
    Book *book = calloc(1, sizeof(Book));
    side_init(&book->side[0], ticks);
    side_init(&book->side[1], ticks);
    book->orders = calloc(orders + 1, sizeof(Order));
    book->slot_of = malloc(ids * sizeof(uint32_t));
    memset(book->slot_of, 0, ids * sizeof(uint32_t)); /* touched here, as on the Python side */
    book->unused = 1;
    book->ticks = ticks;
    return book;
}

void control_flash1_free(Book *book) {
    side_free(&book->side[0]);
    side_free(&book->side[1]);
    free(book->orders);
    free(book->slot_of);
    free(book);
}

/* Number of reports written. */
int64_t control_flash1(Book *book, const Message *messages, int64_t n, uint32_t base, Report *reports) {
    return run(book, messages, n, base, reports);
}

/* The price ladder that both controls are built on: one array of levels per side, indexed by tick, a FIFO list of orders
 * per level, and a bitmap of the occupied levels in tiers of 64-bit words. A good plain C program, nothing exotic.
 */
#ifndef LADDER_H
#define LADDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TIERS = 5, AHEAD = 16 }; /* 64^5 levels; messages of look-ahead of the id prefetch */

typedef struct {
    uint32_t leaves, next, prev, tick, order_id, side;
} Order;

typedef struct {
    uint32_t head, tail;
} Level;

typedef struct {
    Level *levels;
    uint64_t *tier[TIERS];
    int64_t best; /* -1 when the side is empty */
} Side;

typedef struct {
    Side side[2];
    Order *orders; /* slot 0 is none */
    uint32_t *slot_of;
    uint32_t free, unused, first_id;
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

/* Made and freed outside the timed part; the ids' table is touched here, as on the Python side. */
static Book *book_new(int64_t ticks, int64_t ids, int64_t orders, int64_t first_id) {
    Book *book = calloc(1, sizeof(Book));
    side_init(&book->side[0], ticks);
    side_init(&book->side[1], ticks);
    book->orders = calloc(orders + 1, sizeof(Order));
    book->slot_of = malloc(ids * sizeof(uint32_t));
    memset(book->slot_of, 0, ids * sizeof(uint32_t));
    book->unused = 1;
    book->first_id = (uint32_t)first_id;
    return book;
}

static void book_free(Book *book) {
    side_free(&book->side[0]);
    side_free(&book->side[1]);
    free(book->orders);
    free(book->slot_of);
    free(book);
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

static inline uint32_t allocate(Book *book) {
    uint32_t slot = book->free;
    if (slot) book->free = book->orders[slot].next;
    else slot = book->unused++;
    return slot;
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

static inline void pop_head(Book *book, Side *side, uint32_t which, uint32_t tick) {
    Level *level = &side->levels[tick];
    uint32_t after = book->orders[level->head].next;
    level->head = after;
    if (after) {
        book->orders[after].prev = 0;
    } else {
        level->tail = 0;
        level_emptied(side, which, tick);
    }
}

static inline int crosses(const Side *other, uint32_t which, int64_t tick) {
    return other->best >= 0 && (which ? other->best >= tick : other->best <= tick);
}

#endif

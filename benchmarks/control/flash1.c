/* C control of benchmarks/flash1.py: the same job, as a good plain C program does it.
 *
 * On the ladder of ladder.h; external ids resolved by direct indexing, all six kinds of reports written as 24-byte
 * records. Messages, reports and ids are laid out as in flash1.py; both sides of the comparison get the same arrays, warm,
 * and are timed from outside around one call through ctypes.
 */
#include "ladder.h"

typedef struct {
    uint8_t type, side, ioc, pad;
    uint32_t qty, order_id, price;
} Message;

typedef struct {
    uint32_t seq, price, qty, order_id, taker_id;
    uint8_t kind, side;
    uint16_t pad;
} Report;

static inline void release(Book *book, uint32_t slot) {
    book->slot_of[book->orders[slot].order_id - book->first_id] = 0;
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
    while (leaves && crosses(other, which, tick)) {
        uint32_t best = other->best, slot = other->levels[best].head;
        Order *maker = &book->orders[slot];
        uint32_t traded = leaves < maker->leaves ? leaves : maker->leaves;
        *out = report(*out, 1, seq, 0, maker->order_id, base + best, traded, order_id);
        leaves -= traded;
        maker->leaves -= traded;
        if (maker->leaves) break;
        pop_head(book, other, which ^ 1, best);
        release(book, slot);
    }
    return leaves;
}

static int64_t run(Book *book, const Message *messages, int64_t n, uint32_t base, Report *reports) {
    Report *out = reports;
    const uint32_t first_id = book->first_id;
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(&book->slot_of[messages[i + AHEAD].order_id - first_id], 1);
        const Message *m = &messages[i];
        if (m->type == 0) {
            out = report(out, 0, i, m->side, m->order_id, m->price, m->qty, 0);
            uint32_t left = match(book, m->side, m->price - base, m->qty, m->order_id, i, base, &out);
            if (!left) continue;
            if (m->ioc) {
                out = report(out, 2, i, m->side, m->order_id, m->price, 0, 0);
                continue;
            }
            uint32_t slot = allocate(book);
            book->orders[slot].order_id = m->order_id;
            book->slot_of[m->order_id - first_id] = slot;
            rest(book, m->side, slot, m->price - base, left);
            continue;
        }
        uint32_t slot = book->slot_of[m->order_id - first_id];
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

Book *control_flash1_new(int64_t ticks, int64_t ids, int64_t orders, int64_t first_id) {
    return book_new(ticks, ids, orders, first_id);
}

void control_flash1_free(Book *book) { book_free(book); }

/* Number of reports written. */
int64_t control_flash1(Book *book, const Message *messages, int64_t n, uint32_t base, Report *reports) {
    return run(book, messages, n, base, reports);
}

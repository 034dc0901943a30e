/* C control of benchmarks/book.py: the same rows, the same trade hash, on the ladder of ladder.h.
 * Built at run time where a C compiler is present and called through ctypes, timed from outside around one call.
 */
#include "ladder.h"

typedef struct {
    int32_t op, order_id, side, price, qty;
} Row;

typedef struct {
    int64_t trades, volume;
    uint64_t hash;
} Result;

static inline uint64_t mix(uint64_t hash, int64_t x) { return (hash ^ (uint64_t)x) * 1099511628211ull; }

static inline void release(Book *book, uint32_t slot, uint32_t at) {
    book->slot_of[at] = 0;
    book->orders[slot].next = book->free;
    book->free = slot;
}

static inline int64_t match(Book *book, uint32_t which, uint32_t tick, int64_t leaves, int32_t order_id, int64_t base,
                            Result *result) {
    Side *other = &book->side[which ^ 1];
    while (leaves && crosses(other, which, tick)) {
        uint32_t best = other->best, slot = other->levels[best].head;
        Order *maker = &book->orders[slot];
        int64_t traded = leaves < maker->leaves ? leaves : maker->leaves;
        uint64_t hash = mix(result->hash, (int32_t)maker->order_id);
        result->hash = mix(mix(mix(hash, order_id), base + best), traded);
        result->trades++;
        result->volume += traded;
        leaves -= traded;
        maker->leaves -= traded;
        if (maker->leaves) break;
        pop_head(book, other, which ^ 1, best);
        release(book, slot, maker->order_id - book->first_id);
    }
    return leaves;
}

static void run(Book *book, const Row *rows, int64_t n, int64_t base, Result *out) {
    Result result = {0, 0, 1469598103934665603ull};
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(&book->slot_of[(uint32_t)rows[i + AHEAD].order_id - book->first_id], 1);
        const Row *row = &rows[i];
        uint32_t at = (uint32_t)row->order_id - book->first_id, slot = book->slot_of[at];
        if (row->op == 0) {
            if (slot || row->qty <= 0) continue;
            int64_t left = match(book, row->side, row->price - base, row->qty, row->order_id, base, &result);
            if (!left) continue;
            slot = allocate(book);
            book->orders[slot].order_id = row->order_id;
            book->slot_of[at] = slot;
            rest(book, row->side, slot, row->price - base, left);
            continue;
        }
        if (!slot) continue;
        Order *order = &book->orders[slot];
        if (row->op == 2 && row->qty < (int64_t)order->leaves) {
            if (row->qty > 0) order->leaves -= row->qty;
            continue;
        }
        unlink_order(book, slot);
        int64_t left = 0;
        if (row->op == 3 && row->qty > 0)
            left = match(book, order->side, row->price - base, row->qty, row->order_id, base, &result);
        if (left) rest(book, order->side, slot, row->price - base, left);
        else release(book, slot, at);
    }
    *out = result;
}

Book *control_book_new(int64_t ticks, int64_t ids, int64_t orders, int64_t first_id) {
    return book_new(ticks, ids, orders, first_id);
}

void control_book_free(Book *book) { book_free(book); }

void control_book(Book *book, const Row *rows, int64_t n, int64_t base, Result *out) { run(book, rows, n, base, out); }

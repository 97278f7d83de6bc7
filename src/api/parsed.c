/*
 * Texts that were parsed before.
 *
 * The problem: a release parses the session's claims and the key's policy, which are the same as in
 * the last release of that session or key, and that is a tenth of the judge's time. The approach: a
 * small table of texts and their trees. A tree counts only for a text that is equal to its own in
 * every byte, so nothing that changed in the store is ever answered from here; what may be read
 * from the store, and whether its row is signed, is checked before and each time.
 *
 * Trees are only read. Large texts are not kept, so the table has a bound.
 */
#include "api/context.h"

#define PARSED_TEXT_BYTES 16384u

void kbs_parsed_deinit(struct kbs_parsed *p)
{
    json_decref(p->root);
    kbs_buf_deinit(&p->text);
    p->root = NULL;
}

int kbs_parsed_get(struct kbs_parsed *p, struct kbs_span text, kbs_parse *parse, const json_t **ret,
                   struct kbs_error *err)
{
    if (p->text.len != 0 && kbs_span_equal(kbs_buf_span(&p->text), text)) {
        *ret = p->root;
        return 0;
    }
    kbs_parsed_deinit(p);
    if (parse(text, &p->root, err) != 0) {
        p->root = NULL;
        return -1;
    }
    p->text = KBS_BUF(PARSED_TEXT_BYTES);
    kbs_buf_put_span(&p->text, text); /* one that does not fit leaves it empty: equal to none */
    *ret = p->root;
    return 0;
}

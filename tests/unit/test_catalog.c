/*
 * Names of key versions: the kid that is written is the one that kbs_kid_split() reads, up to the
 * longest. And cards: a row takes its own and no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "catalog/row.h"

static void check_kid(const char *path, uint32_t version, const char *expected)
{
    struct kbs_key key = {.version = version};
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_span read_path;
    uint32_t read_version;
    size_t n;

    assert_true(kbs_span_to_cstr(kbs_span_str(path), key.path, sizeof(key.path)));
    n = kbs_key_kid(&key, kid);
    assert_int_equal(n, strlen(kid));
    if (expected != NULL) {
        assert_string_equal(kid, expected);
    }
    assert_true(kbs_kid_split(kbs_span(kid, n), &read_path, &read_version));
    assert_true(kbs_span_equal_str(read_path, path));
    assert_int_equal(read_version, version);
}

static void test_kid(void **state)
{
    (void)state;
    check_kid("default/key/disk", 1, "default/key/disk/v1");
    check_kid("a/b/c", UINT32_MAX, "a/b/c/v4294967295");
    check_kid("_/-/v2", 10, "_/-/v2/v10");
}

static void test_longest_kid(void **state)
{
    char path[KBS_LIMIT_KEY_PATH_BYTES + 1];

    (void)state;
    memset(path, 'x', sizeof(path) - 1);
    path[1] = '/';
    path[3] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_true(kbs_key_path_valid(kbs_span_str(path)));
    check_kid(path, UINT32_MAX, NULL);
}

static struct kbs_key carded(uint8_t bytes[KBS_CARD_BYTES])
{
    struct kbs_key key = {.version = 3, .path = "a/b/c", .id = {7}};
    struct kbs_card card = {.purpose = KBS_PURPOSE_RELEASE,
                            .storage = KBS_STORAGE_WRAPPED,
                            .alg = KBS_KEY_ALG_GENERIC,
                            .floor = KBS_LOCALITY_TOKEN,
                            .provenance = KBS_PROVENANCE_IMPORTED,
                            .key_id = {7},
                            .key_version = 3,
                            .bytes = 48,
                            .wrap_version = 2,
                            .created_s = 5};

    kbs_sha256(KBS_SPAN_LIT("a/b/c/v3"), card.kid);
    kbs_card_body_put(&card, bytes);
    memset(bytes + KBS_CARD_BODY_BYTES, 0xee, KBS_SHA256_BYTES);
    return key;
}

static void test_card(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t bytes[KBS_CARD_BYTES];
    struct kbs_key key = carded(bytes);
    struct kbs_key other = key;

    (void)state;
    assert_int_equal(kbs_key_card(&key).len, 0);
    assert_int_equal(kbs_key_take_card(&key, kbs_span(bytes, sizeof(bytes)), &err), 0);
    assert_true(key.has_card);
    assert_int_equal(key.card.bytes, 48);
    assert_memory_equal(kbs_key_card(&key).p, bytes, sizeof(bytes));
    other.version = 2;
    assert_int_equal(kbs_key_take_card(&other, kbs_span(bytes, sizeof(bytes)), &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    other = carded(bytes);
    other.path[0] = 'A';
    assert_int_equal(kbs_key_take_card(&other, kbs_span(bytes, sizeof(bytes)), &err), -1);
    other = carded(bytes);
    other.id[0] = 8;
    assert_int_equal(kbs_key_take_card(&other, kbs_span(bytes, sizeof(bytes)), &err), -1);
    other = carded(bytes);
    assert_int_equal(kbs_key_take_card(&other, kbs_span(bytes, sizeof(bytes) - 1), &err), -1);
    assert_false(other.has_card);
}

/* Every member of the row, the card and the policy change what is signed. */
static void test_row_covers_everything(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t bytes[KBS_CARD_BYTES];
    struct kbs_key key = carded(bytes);
    struct kbs_key changed[10];
    uint8_t digests[12][KBS_SHA256_BYTES];
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);

    (void)state;
    assert_int_equal(kbs_key_take_card(&key, kbs_span(bytes, sizeof(bytes)), &err), 0);
    for (size_t i = 0; i < 10; i++) {
        changed[i] = key;
    }
    changed[1].path[0] = 'b';
    changed[2].version++;
    changed[3].epoch++;
    changed[4].id[0]++;
    changed[5].state = KBS_KEY_STATE_DISABLED;
    changed[6].kcv_mac = KBS_KCV_AES_CMAC;
    changed[7].destroy_at_s++;
    changed[8].request[31]++;
    changed[9].card_bytes[KBS_CARD_BYTES - 1]++;
    for (size_t i = 0; i < 12; i++) {
        kbs_buf_clear(&content);
        kbs_row_key_put(&content, i < 10 ? &changed[i] : &key,
                        i == 10   ? KBS_SPAN_LIT("{}")
                        : i == 11 ? KBS_SPAN_LIT("{} ")
                                  : KBS_SPAN_EMPTY);
        kbs_row_digest(kbs_buf_span(&content), digests[i]);
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(digests[i], digests[j], KBS_SHA256_BYTES);
        }
    }
    kbs_buf_deinit(&content);
}

static void test_document_names(void **state)
{
    static const char *const good[] = {"a", "a/b", "default_cpu", "a.b-c/D_9/x/y/z", "-", "a..b"};
    static const char *const bad[] = {"",     "/",    "/a",  "a/",   "a//b", ".",    "..",
                                      "a/.b", "a/..", "a b", "a\\b", "a;b",  "a%2fb"};
    char longest[KBS_LIMIT_DOCUMENT_NAME_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(kbs_document_name_valid(kbs_span_str(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(kbs_document_name_valid(kbs_span_str(bad[i])));
    }
    memset(longest, 'n', sizeof(longest));
    assert_true(kbs_document_name_valid(kbs_span(longest, sizeof(longest) - 1)));
    assert_false(kbs_document_name_valid(kbs_span(longest, sizeof(longest))));
    assert_string_equal(kbs_document_kind_name(KBS_DOCUMENT_REFERENCE_VALUE), "reference-value");
    assert_string_equal(kbs_document_kind_name(KBS_DOCUMENT_COUNT), "unknown");
}

/* Every member of a document's row, and its text, change what is signed. */
static void test_document_row_covers_everything(void **state)
{
    const struct kbs_document document = {
        .kind = KBS_DOCUMENT_RESOURCE_POLICY, .name = "name", .version = 1};
    struct kbs_document changed[7];
    uint8_t digests[9][KBS_SHA256_BYTES];
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);

    (void)state;
    for (size_t i = 0; i < 7; i++) {
        changed[i] = document;
    }
    changed[1].kind = KBS_DOCUMENT_ATTESTATION_POLICY;
    changed[2].name[0] = 'N';
    changed[3].version++;
    changed[4].created_s++;
    changed[5].epoch++;
    changed[6].request[0]++;
    for (size_t i = 0; i < 9; i++) {
        kbs_buf_clear(&content);
        kbs_row_document_put(&content, i < 7 ? &changed[i] : &document,
                             i == 7   ? KBS_SPAN_LIT("x")
                             : i == 8 ? KBS_SPAN_LIT("x ")
                                      : KBS_SPAN_EMPTY);
        kbs_row_digest(kbs_buf_span(&content), digests[i]);
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(digests[i], digests[j], KBS_SHA256_BYTES);
        }
    }
    kbs_buf_deinit(&content);
}

/* Layout 1 to the byte (docs/protocol/store-rows.md), written out by hand. */
static void test_document_row_layout(void **state)
{
    static const uint8_t head[] = {
        1,   0,   0,   0,   8,   'd', 'o', 'c', 'u', 'm', 'e', 'n', 't', 0,   0,   0,   17, 'r',
        'e', 'f', 'e', 'r', 'e', 'n', 'c', 'e', '-', 'v', 'a', 'l', 'u', 'e', '/', 'x', 0,  0,
        0,   3,   0,   0,   0,   0,   0,   0,   0,   5,   0,   0,   0,   0,   0,   0,   1,  2};
    static const uint8_t tail[] = {0, 0, 0, 2, 't', 'x'};
    const struct kbs_document document = {.kind = KBS_DOCUMENT_REFERENCE_VALUE,
                                          .name = "x",
                                          .version = 3,
                                          .created_s = 258,
                                          .epoch = 5,
                                          .request = {9}};
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);

    (void)state;
    kbs_row_document_put(&content, &document, KBS_SPAN_LIT("tx"));
    assert_int_equal(content.len, sizeof(head) + KBS_SHA256_BYTES + sizeof(tail));
    assert_memory_equal(content.p, head, sizeof(head));
    assert_memory_equal(content.p + sizeof(head), document.request, KBS_SHA256_BYTES);
    assert_memory_equal(content.p + content.len - sizeof(tail), tail, sizeof(tail));
    kbs_buf_deinit(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kid),
        cmocka_unit_test(test_longest_kid),
        cmocka_unit_test(test_card),
        cmocka_unit_test(test_row_covers_everything),
        cmocka_unit_test(test_document_names),
        cmocka_unit_test(test_document_row_covers_everything),
        cmocka_unit_test(test_document_row_layout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

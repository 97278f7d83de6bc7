/*
 * The one C++ file of the project. There is no C library for TOML in Debian, and toml++ is the one
 * that keeps the position of every key, which is what makes a configuration error readable. It is
 * used here and nowhere else, header-only and without exceptions, so that nothing C++ crosses into
 * the C callers: no unwinding, no types, and when memory runs out the process ends, as it may at
 * start. The tree that goes out is copied, and toml++'s own is gone when we return.
 */
#include <cstring>
#include <string_view>

#include <toml++/toml.h>

#include "config/document.h"

namespace
{

struct copier {
    const kbs_doc_memory &memory;
    bool failed;

    kbs_doc_text text_of(std::string_view s)
    {
        auto *copy = static_cast<char *>(memory.alloc(memory.arg, s.size() + 1));
        if (copy == nullptr) {
            failed = true;
            return kbs_doc_text{nullptr, 0};
        }
        std::memcpy(copy, s.data(), s.size());
        return kbs_doc_text{copy, s.size()};
    }

    static kbs_doc_place place_of(const toml::source_region &region)
    {
        return kbs_doc_place{static_cast<unsigned int>(region.begin.line),
                             static_cast<unsigned int>(region.begin.column), nullptr};
    }

    void fill_table(const toml::table &table, kbs_doc_node &node, int depth)
    {
        node.count = table.size();
        kbs_doc_node **link = &node.first;
        for (const auto &[key, value] : table) {
            kbs_doc_node *child = depth < KBS_DOC_DEPTH ? make(value, depth + 1) : nullptr;
            if (child == nullptr) {
                return;
            }
            child->key = text_of(key.str());
            child->key_at = place_of(key.source());
            *link = child;
            link = &child->next;
        }
    }

    void fill_array(const toml::array &array, kbs_doc_node &node, int depth)
    {
        node.count = array.size();
        kbs_doc_node **link = &node.first;
        for (const auto &value : array) {
            kbs_doc_node *child = depth < KBS_DOC_DEPTH ? make(value, depth + 1) : nullptr;
            if (child == nullptr) {
                return;
            }
            child->key_at = child->value_at;
            *link = child;
            link = &child->next;
        }
    }

    kbs_doc_node *make(const toml::node &value, int depth)
    {
        auto *node = static_cast<kbs_doc_node *>(memory.alloc(memory.arg, sizeof(kbs_doc_node)));
        if (node == nullptr) {
            failed = true;
            return nullptr;
        }
        node->value_at = place_of(value.source());
        node->type = KBS_DOC_OTHER;
        if (const auto *table = value.as_table()) {
            node->type = KBS_DOC_TABLE;
            fill_table(*table, *node, depth);
        } else if (const auto *array = value.as_array()) {
            node->type = KBS_DOC_ARRAY;
            fill_array(*array, *node, depth);
        } else if (const auto *string = value.as_string()) {
            node->type = KBS_DOC_STRING;
            node->string = text_of(string->get());
        } else if (const auto *integer = value.as_integer()) {
            node->type = KBS_DOC_INTEGER;
            node->integer = integer->get();
        } else if (const auto *boolean = value.as_boolean()) {
            node->type = KBS_DOC_BOOLEAN;
            node->boolean = boolean->get();
        }
        return node;
    }
};

/*
 * toml++ recurses once for each part of a dotted key, and knows a limit for brackets only. No file that
 * a person writes has this many dots, in keys or elsewhere; any stack has room for them.
 */
constexpr unsigned int max_dots = 2000;

bool nests_too_deeply(std::string_view text, kbs_doc_error &err)
{
    unsigned int dots = 0;
    unsigned int line = 1;
    for (const char c : text) {
        line += c == '\n' ? 1 : 0;
        dots += c == '.' ? 1 : 0;
        if (dots > max_dots) {
            err.at = kbs_doc_place{line, 1, nullptr};
            constexpr std::string_view message = "has more than 2000 dots up to here";
            std::memcpy(err.message, message.data(), message.size());
            return true;
        }
    }
    return false;
}

} // namespace

extern "C" int kbs_doc_parse_toml(const char *text, size_t len, const kbs_doc_memory *memory,
                                  kbs_doc_node **ret, kbs_doc_error *err)
{
    *ret = nullptr;
    *err = kbs_doc_error{};
    if (nests_too_deeply(std::string_view{text, len}, *err)) {
        return -1;
    }
    const toml::parse_result result = toml::parse(std::string_view{text, len});
    if (!result) {
        const toml::parse_error &why = result.error();
        const std::string_view message = why.description();
        const size_t n =
            message.size() < sizeof(err->message) ? message.size() : sizeof(err->message) - 1;
        std::memcpy(err->message, message.data(), n);
        err->message[n] = '\0';
        err->at = copier::place_of(why.source());
        return -1;
    }
    copier copy{*memory, false};
    *ret = copy.make(result.table(), 0);
    return copy.failed ? -1 : 0;
}

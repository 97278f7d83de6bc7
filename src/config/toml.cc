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

/* Where in TOML a byte stands, as far as check_text() has to know. */
enum class region { plain, comment, basic, literal, long_basic, long_literal };

/* The region after the byte at text[i]; `i` gets beyond bytes that have been looked at with it. */
region step(std::string_view text, size_t &i, region in)
{
    const char c = text[i];
    const bool quote = c == '"' || c == '\'';
    const bool three = quote && text.find_first_not_of(c, i) >= i + 3 && i + 3 <= text.size();
    switch (in) {
    case region::comment:
        return c == '\n' ? region::plain : in;
    case region::basic:
        i += c == '\\' ? 1 : 0;
        return c == '"' || c == '\n' ? region::plain : in;
    case region::literal:
        return c == '\'' || c == '\n' ? region::plain : in;
    case region::long_basic:
    case region::long_literal:
        i += c == '\\' && in == region::long_basic ? 1 : 0;
        if (three && (c == '"') == (in == region::long_basic)) {
            /* Up to two more quotes are its content. */
            const size_t end = text.find_first_not_of(c, i);
            i = end == std::string_view::npos ? text.size() : end - 1;
            return region::plain;
        }
        return in;
    case region::plain:
    default:
        i += three ? 2 : 0;
        if (quote && c == '"') {
            return three ? region::long_basic : region::basic;
        }
        if (quote) {
            return three ? region::long_literal : region::literal;
        }
        return c == '#' ? region::comment : region::plain;
    }
}

/* Whether that may follow the brackets that begin a header: another one, its name, or its end. */
bool may_follow(unsigned int brackets, char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c == '[' && brackets < 2) ||
           std::string_view{"_-\"'] \t"}.find(c) != std::string_view::npos;
}

/*
 * What toml++ does not survive, looked for before it is let at the text.
 *   - It recurses once for each part of a dotted key, and knows a limit for brackets only. No file that
 *     a person writes has this many dots in keys and numbers, and any stack has room for them.
 *   - It asserts that a table's name begins like one. So must whatever else begins a line with a
 *     bracket: a list in a list, which no key of ours or Trustee's has.
 *   - It takes some characters outside of ASCII for impossible where white space may be. They are no
 *     TOML but in strings and comments.
 * Returns what is wrong, with the place in `at`, or nullptr.
 */
const char *check_text(std::string_view text, kbs_doc_place &at)
{
    constexpr unsigned int max_dots = 2000;
    unsigned int dots = 0;
    unsigned int brackets = 0; /* that began this line */
    bool indent = true;        /* and nothing else so far but white space */
    region in = region::plain;
    at = kbs_doc_place{1, 0, nullptr};
    for (size_t i = text.substr(0, 3) == "\xEF\xBB\xBF" ? 3 : 0; i < text.size(); i++) {
        const char c = text[i];
        at.column++;
        if (in == region::plain && static_cast<unsigned char>(c) >= 0x80) {
            return "only strings and comments may hold characters outside of ASCII";
        }
        dots += in == region::plain && c == '.' ? 1 : 0;
        if (dots > max_dots) {
            return "has more than 2000 dots up to here";
        }
        if (in == region::plain && brackets > 0 && !may_follow(brackets, c)) {
            return "the name of a table begins with a letter, a digit, \"_\", \"-\" or a quote";
        }
        indent = indent && in == region::plain && (c == '[' || c == ' ' || c == '\t');
        brackets = indent ? brackets + (c == '[' ? 1 : 0) : 0;
        const size_t from = i;
        in = step(text, i, in);
        for (size_t k = from; k <= i && k < text.size(); k++) {
            at.column += k > from ? 1 : 0;
            if (text[k] == '\n') {
                at = kbs_doc_place{at.line + 1, 0, nullptr};
                indent = in == region::plain;
                brackets = 0;
            }
        }
    }
    return nullptr;
}

} // namespace

extern "C" int kbs_doc_parse_toml(const char *text, size_t len, const kbs_doc_memory *memory,
                                  kbs_doc_node **ret, kbs_doc_error *err)
{
    *ret = nullptr;
    *err = kbs_doc_error{};
    if (const char *wrong = check_text(std::string_view{text, len}, err->at)) {
        std::memcpy(err->message, wrong, std::strlen(wrong));
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

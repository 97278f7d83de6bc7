/*
 * The one C++ file of the project. There is no C library for TOML in Debian, and toml++ is the one
 * that keeps the position of every key, which is what makes a configuration error readable. It is
 * used here and nowhere else, header-only and without exceptions, so that nothing C++ crosses into
 * the C callers: no unwinding, no types, and when memory runs out the process ends, as it may at
 * start.
 */
#include <cstring>
#include <string_view>

#include <toml++/toml.h>

#include "config/toml.h"

namespace
{

kbs_toml_text text_of(std::string_view s)
{
    return kbs_toml_text{s.data(), s.size()};
}

kbs_toml_position position_of(const toml::source_region &region)
{
    return kbs_toml_position{static_cast<unsigned int>(region.begin.line),
                             static_cast<unsigned int>(region.begin.column)};
}

void describe(const toml::node &value, kbs_toml_node &node)
{
    node.value_at = position_of(value.source());
    node.type = KBS_TOML_OTHER;
    if (value.is_table()) {
        node.type = KBS_TOML_TABLE;
    } else if (const auto *array = value.as_array()) {
        node.type = KBS_TOML_ARRAY;
        node.count = array->size();
    } else if (const auto *string = value.as_string()) {
        node.type = KBS_TOML_STRING;
        node.string = text_of(string->get());
    } else if (const auto *integer = value.as_integer()) {
        node.type = KBS_TOML_INTEGER;
        node.integer = integer->get();
    } else if (const auto *boolean = value.as_boolean()) {
        node.type = KBS_TOML_BOOLEAN;
        node.boolean = boolean->get();
    }
}

int walk(const toml::table &table, std::string_view name, bool enter, kbs_toml_visit visit,
         void *arg)
{
    for (const auto &[key, value] : table) {
        kbs_toml_node node{};
        node.table = text_of(name);
        node.key = text_of(key.str());
        node.key_at = position_of(key.source());
        describe(value, node);
        int rc = visit(arg, &node);
        if (rc == 0 && enter && value.is_table()) {
            rc = walk(*value.as_table(), key.str(), false, visit, arg);
        }
        if (rc == 0 && value.is_array()) {
            for (const auto &item : *value.as_array()) {
                kbs_toml_node element{node};
                element.element = true;
                describe(item, element);
                rc = visit(arg, &element);
                if (rc != 0) {
                    break;
                }
            }
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

} // namespace

extern "C" int kbs_toml_parse(const char *text, size_t len, kbs_toml_visit visit, void *arg,
                              kbs_toml_error *err)
{
    const toml::parse_result result = toml::parse(std::string_view{text, len});
    if (!result) {
        const toml::parse_error &why = result.error();
        const std::string_view message = why.description();
        const size_t n =
            message.size() < sizeof(err->message) ? message.size() : sizeof(err->message) - 1;
        std::memcpy(err->message, message.data(), n);
        err->message[n] = '\0';
        err->at = position_of(why.source());
        return -1;
    }
    return walk(result.table(), std::string_view{}, true, visit, arg);
}

#include "commands/commands.hpp"
#include "log_view.hpp"
#include "output.hpp"
#include "rows.hpp"

#include <algorithm>
#include <ostream>

namespace safepair::cli {

namespace {

/// What fits a terminal's memory; a resumed stream wants all.
constexpr std::uint32_t last_default = 100;

v1::EventsRequest request_of(const Arguments& arguments) {
    v1::EventsRequest request;
    if (!arguments.modules.empty()) {
        request.set_module(arguments.modules.front());
    }
    request.set_node(arguments.node);
    request.set_after(arguments.after.value_or(0));
    request.set_last(arguments.last.value_or(arguments.after ? 0 : last_default));
    request.set_follow(arguments.follow);
    return request;
}

/// A module that never was has no events either: that is more likely a slip of the pen than a quiet
/// module.
ExitCode explain_nothing(const Client& client, const Arguments& arguments, Console& console) {
    const auto modules = client.modules();
    if (!arguments.modules.empty() && modules) {
        const auto& all = modules->modules();
        const auto& name = arguments.modules.front();
        if (std::none_of(all.begin(), all.end(), [&](const auto& module) {
                return module.name() == name;
            })) {
            return report(console,
                          with_known_names(client,
                                           base::error(base::Errc::not_found,
                                                       "module " + name + " is not configured")));
        }
    }
    console.err << "No events.\n";
    return ExitCode::ok;
}

}  // namespace

ExitCode run_log(const Arguments& arguments, Console& console) {
    const auto client = Client::connect(arguments.socket);
    if (!client) {
        return report(console, client.error());
    }
    LogOptions options;
    options.headers = arguments.headers;
    options.wide = arguments.format == Format::wide;
    options.output = arguments.output;
    options.utf8 = console.utf8;
    options.color = console.out_color;
    LogView view(options);
    bool any = false;
    const auto read = client->events(request_of(arguments), [&](const v1::EventRecord& record) {
        any = true;
        console.out << (is_structured(arguments.format)
                            ? render_stream_item(to_json(record), arguments.format)
                            : view.render(record));
        if (arguments.follow) {
            console.out << std::flush;
        }
        return static_cast<bool>(console.out);
    });
    if (!read) {
        return report(console, read.error());
    }
    return any ? ExitCode::ok : explain_nothing(*client, arguments, console);
}

}  // namespace safepair::cli

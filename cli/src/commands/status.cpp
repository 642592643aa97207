#include "commands/commands.hpp"
#include "output.hpp"
#include "rows.hpp"
#include "status_view.hpp"

#include <chrono>
#include <ostream>
#include <thread>

namespace safepair::cli {

namespace {

constexpr auto reconnect_pause = std::chrono::seconds(1);

ViewOptions view_options(const Arguments& arguments, const Console& console) {
    ViewOptions options;
    options.headers = arguments.headers;
    options.wide = arguments.format == Format::wide;
    options.utf8 = console.utf8;
    options.color = console.out_color;
    options.columns = console.columns;
    return options;
}

std::string names_of(const v1::StatusReply& reply) {
    std::string text;
    std::string last;
    for (const auto& row : reply.modules()) {
        if (row.module() != last) {
            text += row.module() + "\n";
        }
        last = row.module();
    }
    return text;
}

std::string rendered(const v1::StatusReply& reply,
                     const Arguments& arguments,
                     const Console& console) {
    if (is_structured(arguments.format)) {
        return render(to_json(reply), arguments.format);
    }
    if (arguments.format == Format::name) {
        return names_of(reply);
    }
    return render_status(reply, view_options(arguments, console));
}

/// The reply without what moves although nothing happened.
std::string fingerprint(v1::StatusReply reply) {
    reply.set_time(0);
    for (auto& link : *reply.mutable_links()) {
        link.set_sent(0);
        link.set_received(0);
    }
    return reply.SerializeAsString();
}

/// The whole screen again without flicker: each line is overwritten, the rest erased.
void redraw(const std::string& text, Console& console) {
    std::string screen = "\033[H";
    for (const auto one : text) {
        screen += one == '\n' ? "\033[K\n" : std::string(1, one);
    }
    console.out << screen << "\033[J" << std::flush;
}

/// Watches until the stream ends; the error says why.
base::Result<void> watch_once(const Client& client,
                              const Arguments& arguments,
                              Console& console,
                              bool live) {
    std::string last;
    bool first = true;
    base::Result<void> checked;
    Cancellation cancellation;
    const auto watched =
        client.watch(status_request(arguments), {}, cancellation, [&](v1::StatusReply reply) {
            checked = check_node(reply, arguments.node);
            if (!checked) {
                return false;
            }
            keep_node(reply, arguments.node);
            if (live) {
                redraw(rendered(reply, arguments, console), console);
                return static_cast<bool>(console.out);
            }
            auto now = fingerprint(reply);
            if (now != last) {
                const bool is_table = !is_structured(arguments.format);
                console.out << (is_table && !first ? "\n" : "")
                            << (is_table ? rendered(reply, arguments, console)
                                         : render_stream_item(to_json(reply), arguments.format))
                            << std::flush;
            }
            last = std::move(now);
            first = false;
            return static_cast<bool>(console.out);
        });
    return checked ? watched : checked;
}

ExitCode watch(const Arguments& arguments, Console& console) {
    const bool live = console.out_is_terminal && !is_structured(arguments.format);
    bool seen = false;
    for (;;) {
        const auto client = Client::connect(arguments.socket);
        base::Result<void> watched;
        if (client) {
            if (live && !seen) {
                console.out << "\033[2J";
            }
            seen = true;
            watched = watch_once(*client, arguments, console, live);
        } else {
            watched = client.error();
        }
        if (watched) {
            return ExitCode::ok;
        }
        // An agent that is restarted comes back: whoever sits before the screen does not want to
        // start again.
        if (!live || !seen || watched.error().code != base::Errc::peer_unreachable) {
            return report(console,
                          client ? with_known_names(*client, watched.error()) : watched.error());
        }
        redraw("Lost the agent, trying again (Ctrl-C ends this): " + watched.error().context + "\n",
               console);
        std::this_thread::sleep_for(reconnect_pause);
    }
}

}  // namespace

ExitCode run_status(const Arguments& arguments, Console& console) {
    if (arguments.watch) {
        return watch(arguments, console);
    }
    const auto client = Client::connect(arguments.socket);
    if (!client) {
        return report(console, client.error());
    }
    auto reply = client->status(status_request(arguments));
    if (!reply) {
        return report(console, with_known_names(*client, reply.error()));
    }
    if (const auto checked = check_node(*reply, arguments.node); !checked) {
        return report(console, checked.error());
    }
    keep_node(*reply, arguments.node);
    console.out << rendered(*reply, arguments, console);
    if (reply->modules().empty() && !is_structured(arguments.format)) {
        console.err << "No module to show. " << known_modules(*client) << "\n";
    }
    return ExitCode::ok;
}

}  // namespace safepair::cli

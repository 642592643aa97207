#include "commands/commands.hpp"
#include "output.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ostream>
#include <string>
#include <string_view>

namespace safepair::cli {

namespace {

struct Explanation {
    std::string_view word;
    std::string_view text;
};

constexpr std::array explanations{
    Explanation{"STOP",
                "The module does nothing on this node: no service, and its folder is an ordinary "
                "folder when it was stopped cleanly. "
                "safectl start MODULE starts it; the other node does not take over for it."},
    Explanation{"WAIT",
                "The module is started on this node and may not lead. Transient: it is starting, "
                "stopping or listening for the other "
                "node, and goes on by itself. NotReady: it is blocked, mostly because the data of "
                "the other node may be newer. The "
                "line below the status table says what it waits for. Either start the other node, "
                "or, if this copy is the good one: "
                "safectl stop MODULE, then safectl as-primary MODULE."},
    Explanation{"ALONE",
                "This node runs the service without a second copy: the other one is stopped, lost "
                "or not yet up to date. Each write is "
                "noted for it. Start the module there and it catches up with what changed."},
    Explanation{"PRIM",
                "This node runs the service, and each write is on the other node as well before it "
                "is acknowledged. Transient: the "
                "other node still catches up."},
    Explanation{"SECOND",
                "This node receives each write of the leader. Transient: it is catching up and "
                "cannot take over yet. Ready: it takes "
                "over at once when the leader is lost or stopped. Its folder is read-only."},
    Explanation{"Ready", "Green: the role is fully in effect."},
    Explanation{"Transient", "Orange: on the way; it becomes Ready or NotReady by itself."},
    Explanation{"NotReady",
                "Red: STOP, or blocked until something outside changes; the line below the status "
                "table says what."},
    Explanation{"silent",
                "The node is heard on no network. What is shown is what it said last; it may "
                "meanwhile be anything."},
    Explanation{"uptodate", "The copy holds every acknowledged write, and that is known."},
    Explanation{"not uptodate",
                "The copy was never complete nor declared good. On the node that has the data: "
                "safectl as-primary MODULE."},
    Explanation{"unknown",
                "The copy is whole, but whether the other one is newer cannot be told without "
                "asking it: both went down together."},
    Explanation{"outdated", "The copy is whole and known to be behind the other one."},
    Explanation{"inconsistent",
                "A resynchronisation was interrupted: the copy is half old, half new and never "
                "leads. Start both nodes to finish it."},
    Explanation{"syncing", "The copy is being brought up to date."},
};

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(), [](unsigned char one) {
        return static_cast<char>(std::tolower(one));
    });
    return result;
}

}  // namespace

ExitCode run_explain(const Arguments& arguments, Console& console) {
    Json record;
    bool found = false;
    const auto columns = console.columns == 0 ? std::size_t{100} : console.columns;
    for (const auto& one : explanations) {
        if (!arguments.word.empty() && lower(one.word) != lower(arguments.word)) {
            continue;
        }
        found = true;
        record[std::string(one.word)] = one.text;
        if (!is_structured(arguments.format)) {
            const auto heading = fmt::format("{}: {}", one.word, one.text);
            console.out << wrapped(heading, columns, 4) << "\n";
        }
    }
    if (!found) {
        return report(
            console,
            base::error(
                base::Errc::bad_input,
                fmt::format("'{}' is no word of the status table; safectl explain lists them",
                            arguments.word)));
    }
    if (is_structured(arguments.format)) {
        console.out << render(record, arguments.format);
    }
    return ExitCode::ok;
}

}  // namespace safepair::cli

#include "commands/commands.hpp"
#include "output.hpp"
#include "text.hpp"

#include <ostream>

namespace safepair::cli {

ExitCode run_version(const Arguments& arguments, Console& console) {
    const auto client = Client::connect(arguments.socket);
    base::Result<v1::VersionReply> agent =
        client ? client->version() : base::Result<v1::VersionReply>(client.error());
    if (is_structured(arguments.format)) {
        Json record{{"safectl", SAFEPAIR_VERSION}, {"agent", nullptr}};
        if (agent) {
            record["agent"] = Json{{"version", agent->version()},
                                   {"node", agent->node()},
                                   {"wire_min", agent->wire_min()},
                                   {"wire_max", agent->wire_max()}};
        }
        console.out << render(record, arguments.format);
    } else {
        console.out << "safectl     " << SAFEPAIR_VERSION << "\n";
        if (agent) {
            console.out << "safe-agent  " << printable(agent->version()) << "   node "
                        << printable(agent->node()) << ", wire " << agent->wire_min();
            if (agent->wire_max() != agent->wire_min()) {
                console.out << " to " << agent->wire_max();
            }
            console.out << "\n";
        }
    }
    return agent ? ExitCode::ok : report(console, agent.error());
}

}  // namespace safepair::cli

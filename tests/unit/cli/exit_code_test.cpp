#include "exit_code.hpp"

#include "support/catch.hpp"

#include <cerrno>

using namespace safepair;
using safepair::cli::exit_code_of;

TEST_CASE("Exit codes: an outcome of a verb has a stable number") {
    struct Row {
        v1::CommandReply::Outcome outcome;
        int code;
    };

    for (const auto& row : {Row{v1::CommandReply::OUTCOME_DONE, 0},
                            Row{v1::CommandReply::OUTCOME_REFUSED, 1},
                            Row{v1::CommandReply::OUTCOME_UNSAFE, 107},
                            Row{v1::CommandReply::OUTCOME_FAILED, 1},
                            Row{v1::CommandReply::OUTCOME_WAITS, 75},
                            Row{v1::CommandReply::OUTCOME_UNSPECIFIED, 1}}) {
        DYNAMIC_SECTION(v1::CommandReply::Outcome_Name(row.outcome)) {
            CHECK(static_cast<int>(exit_code_of(row.outcome)) == row.code);
        }
    }
}

TEST_CASE("Exit codes: an error has a stable number") {
    struct Row {
        base::Errc error;
        int code;
    };

    for (const auto& row : {Row{base::Errc::bad_input, 64},
                            Row{base::Errc::peer_unreachable, 69},
                            Row{base::Errc::busy, 75},
                            Row{base::Errc::limit_reached, 75},
                            Row{base::Errc::would_lose_data, 107},
                            Row{base::Errc::timed_out, 124},
                            Row{base::Errc::not_found, 1},
                            Row{base::Errc::refused, 1},
                            Row{base::Errc::unsupported, 1},
                            Row{base::Errc::cancelled, 1}}) {
        DYNAMIC_SECTION(make_error_code(row.error).message()) {
            CHECK(static_cast<int>(exit_code_of(base::error(row.error, "x"))) == row.code);
        }
    }
    CHECK(static_cast<int>(exit_code_of(base::error_from_errno(EACCES, "x"))) == 77);
    CHECK(static_cast<int>(exit_code_of(base::error_from_errno(EEXIST, "x"))) == 108);
    CHECK(static_cast<int>(exit_code_of(base::error_from_errno(EIO, "x"))) == 1);
}

TEST_CASE("Exit codes: the documented numbers that no command returns yet are taken") {
    CHECK(static_cast<int>(cli::ExitCode::bad_config) == 78);
    CHECK(static_cast<int>(cli::ExitCode::no_witness) == 106);
}

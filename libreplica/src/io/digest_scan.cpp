#include "io/digest_scan.hpp"

#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <utility>

namespace safepair::replica {

namespace {

constexpr auto block_bytes = limits::dirty_block_bytes;
/// Under way at once: enough that the follower always has the next one.
constexpr std::size_t questions_max = 4;
/// Data that one question makes the follower read; the application's writes wait that long.
constexpr std::uint64_t batch_data_max = 8 * 1024 * 1024;
/// Blocks of a hole in one range; only their digests cost.
constexpr std::uint32_t hole_blocks_max = digest_blocks_max / 2;

std::uint32_t block_count(std::uint64_t bytes) {
    return static_cast<std::uint32_t>((bytes + block_bytes - 1) / block_bytes);
}

}  // namespace

DigestScan::DigestScan(Store& mine, ResyncLink& link, ResyncProgress& progress, BlockCopier& copier)
    : mine_(mine), link_(link), progress_(progress), copier_(copier), digester_(mine) {}

base::Result<std::uint64_t> DigestScan::run(const std::vector<FileWork>& work) {
    std::deque<Batch> under_way;
    bool all_asked = false;
    while (!all_asked || !under_way.empty()) {
        if (link_.cancelled()) {
            return base::error(base::Errc::cancelled, "resync");
        }
        if (!all_asked && under_way.size() < questions_max) {
            SAFEPAIR_TRY(auto batch, next_batch(work));
            all_asked = batch.ranges.empty();
            if (!all_asked) {
                Question question;
                question.kind = Question::Kind::digests;
                question.ranges = batch.ranges;
                batch.answer = PendingAnswer::ask(link_, question);
                under_way.push_back(std::move(batch));
            }
            continue;
        }
        SAFEPAIR_CHECK(finish(under_way.front()));
        under_way.pop_front();
    }
    return differing_;
}

base::Result<DigestScan::Batch> DigestScan::next_batch(const std::vector<FileWork>& work) {
    Batch batch;
    std::uint64_t blocks = 0;
    std::uint64_t data = 0;
    while (item_ < work.size() && batch.ranges.size() < digest_ranges_max) {
        const auto& item = work[item_];
        if (!item.compare || range_ == item.ranges.size()) {
            ++item_;
            range_ = 0;
            continue;
        }
        const ByteRange rest{item.ranges[range_].begin + done_, item.ranges[range_].end};
        SAFEPAIR_TRY(
            const auto count,
            blocks_to_ask(item.file, rest, batch_data_max - std::min(data, batch_data_max)));
        if (!batch.ranges.empty() && (count == 0 || blocks + count > digest_blocks_max)) {
            break;
        }
        const auto taken = std::max<std::uint32_t>(count, 1);
        const auto bytes = std::min(taken * block_bytes, rest.end - rest.begin);
        batch.ranges.push_back({item.file, rest.begin / block_bytes, taken});
        batch.ends.push_back(item.ranges.back().end);
        blocks += taken;
        // A hole here may be data there, but seldom is.
        data += taken > block_count(batch_data_max) ? 0 : bytes;
        done_ += bytes;
        if (rest.begin + bytes == rest.end) {
            ++range_;
            done_ = 0;
        }
    }
    return batch;
}

base::Result<std::uint32_t> DigestScan::blocks_to_ask(FileId file,
                                                      ByteRange rest,
                                                      std::uint64_t data_left) {
    const auto wanted = rest.end - rest.begin;
    const auto window = std::min(wanted, hole_blocks_max * block_bytes);
    if (window > batch_data_max) {
        const auto extents = mine_.data_extents(file, rest.begin, window);
        if (extents && extents->empty()) {
            return block_count(window);
        }
        if (!extents && extents.error().code != std::errc::no_such_file_or_directory) {
            return extents.error();
        }
    }
    return block_count(std::min(wanted, data_left / block_bytes * block_bytes));
}

base::Result<void> DigestScan::finish(Batch& batch) {
    // While the follower works on this and the next questions.
    std::vector<RangeDigests> mine;
    mine.reserve(batch.ranges.size());
    for (const auto& range : batch.ranges) {
        SAFEPAIR_TRY(auto digests, digester_.digests(range));
        mine.push_back(std::move(digests));
    }
    SAFEPAIR_TRY(const auto bytes, batch.answer->wait());
    SAFEPAIR_TRY(const auto theirs, decode_digest_answer(bytes, batch.ranges));
    FileId shown;
    for (std::size_t i = 0; i < batch.ranges.size(); ++i) {
        const auto& range = batch.ranges[i];
        if (shown != range.file) {
            shown = range.file;
            progress_.set_file(mine_.path_of(shown));
        }
        SAFEPAIR_CHECK(compare(range, batch.ends[i], mine[i], theirs[i]));
        const auto begin = range.first * block_bytes;
        progress_.add_done(std::min(range.count * block_bytes, batch.ends[i] - begin));
    }
    return {};
}

base::Result<void> DigestScan::compare(const DigestRange& range,
                                       std::uint64_t end,
                                       const RangeDigests& mine,
                                       const RangeDigests& theirs) {
    // Gone here: gone there as well, when it has come that far. Gone there: it was removed through
    // the same sequence.
    if (!mine || !theirs) {
        return {};
    }
    for (const auto& differing : differing_ranges(range, *mine, *theirs, end)) {
        differing_ += differing.end - differing.begin;
        SAFEPAIR_CHECK(copier_.copy(range.file, differing, false));
    }
    return {};
}

}  // namespace safepair::replica

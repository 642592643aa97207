#pragma once

#include "io/block_digest.hpp"
#include "io/resync_link.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/store.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

/// The follower's half of a resync. Everything here runs on the thread that applies records.
namespace safepair::replica {

/// Carries a record out. A block is dropped when its file is gone, and cut where the file ends; a
/// created object starts without the ACL that its directory would give it. Errors end the session
/// (R13).
[[nodiscard]] base::Result<void> apply_resync_record(Store& store, const ResyncRecord& record);

/// Answers questions about the follower's copy. `my_map` is everything that may differ here (R10);
/// it is asked once per resync. Not thread-safe.
class ResyncTarget final : public ResyncResponder {
  public:
    ResyncTarget(Store& mine, std::function<DirtyMap()> my_map);

    [[nodiscard]] base::Result<std::vector<std::byte>> answer(
        std::span<const std::byte> question) override;

  private:
    base::Result<std::vector<std::byte>> answer_map(std::uint32_t index);
    base::Result<std::vector<std::byte>> answer_tree(std::uint32_t index);
    base::Result<std::vector<std::byte>> answer_digests(const std::vector<DigestRange>& ranges);

    Store& mine_;
    std::function<DirtyMap()> my_map_;
    BlockDigester digester_;
    std::vector<std::vector<std::byte>> map_pieces_;
    /// What is still to be listed; nothing changes names while the tree is asked for.
    std::vector<std::pair<FileId, std::vector<NameOf>>> objects_;
    std::uint32_t next_page_ = 0;
    std::size_t next_object_ = 0;
    std::size_t next_name_ = 0;
};

}  // namespace safepair::replica

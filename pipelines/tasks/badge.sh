#!/bin/sh
# What badge.yml runs: draws the badge of $BRANCH in $STATE, and commits it to the branch `badges` of $GIT_URI.
set -eu
printf '%s' "$SOURCE" | git-image badge --source - --branch "$BRANCH" --state "$STATE" --output badge.svg
export HOME="$PWD" GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_NAME=git-image GIT_AUTHOR_EMAIL=git-image@localhost
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"
(umask 077 && printf '%s\n' "$GIT_IMAGE_GIT_PRIVATE_KEY" >key)
export GIT_SSH_COMMAND="ssh -i $PWD/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new"
git init --quiet --initial-branch=badges badges && cd badges
git config credential.helper \
    '!printf "username=%s\npassword=%s\n" "$GIT_IMAGE_GIT_USERNAME" "$GIT_IMAGE_GIT_PASSWORD"; :'
badge=$(git hash-object -w ../badge.svg)
# Another branch may push its badge between our look and our push: then we look again.
for attempt in 1 2 3 4 5 6 7 8 9; do
    parent='' && git read-tree --empty
    if [ -n "$(git ls-remote --heads "$GIT_URI" refs/heads/badges)" ]; then
        git fetch --quiet --depth=1 "$GIT_URI" refs/heads/badges
        parent=$(git rev-parse FETCH_HEAD) && git read-tree "$parent"
    fi
    git update-index --add --cacheinfo "100644,$badge,$BRANCH.svg"
    tree=$(git write-tree)
    [ "$tree" != "$(git rev-parse --quiet --verify "${parent:-none}^{tree}")" ] || exit 0
    commit=$(git commit-tree ${parent:+-p "$parent"} -m "$BRANCH: $STATE [ci skip]" "$tree")
    if git push --quiet "$GIT_URI" "$commit:refs/heads/badges"; then exit 0; fi
done
exit 1

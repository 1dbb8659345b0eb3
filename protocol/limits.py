"""Every bound on size, count, length, age and skew of the wire protocol, each with its reason.

Sizes are bytes, times are seconds, unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

# -- the wire -------------------------------------------------------------------------------
PROTOCOL_VERSION: Final = 1
"""Version of all that is in this package: the newest that a link may speak."""

OLDEST_VERSION: Final = 1
"""The oldest version that a link may speak.  Raised only when no partner can be expected to speak
it any more: until then a facility need not update on the day on which another one does."""

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message of a link.  A full catch-up answer (BATCH_ANSWER_BYTES) with head room, and small
enough that a hundred partners that send nonsense at once cannot exhaust a small node."""

CONTAINER_ITEMS: Final = 131_072
"""Most items in one array or map; a catch-up batch of BATCH_ENTRIES entries must fit."""

NESTING_DEPTH: Final = 12
"""Deepest nesting of arrays and maps; the deepest message of ours has seven levels."""

TEXT_BYTES: Final = 65_536
"""Longest text string; sentences, names and codes are far below, PEM and JSON do not travel."""

# -- signing and sealing --------------------------------------------------------------------
SEAL_OVERHEAD: Final = 32 + 16
"""An ephemeral X25519 public key and a Poly1305 tag."""

# -- clocks ---------------------------------------------------------------------------------
CLOCK_SKEW_S: Final = 600
"""How far ahead of ours a signed instant may lie: hospital clocks drift by minutes, not hours."""

CLOCK_WARNING_S: Final = 120
"""From here on the operator is told that a clock is wrong."""

# -- journal and exchange -------------------------------------------------------------------
ENTRY_BODY_BYTES: Final = 16 * 1024
"""Largest body of an entry: a digest is cut at 8 KiB, a patient's slots come on top of its card."""

BATCH_ENTRIES: Final = 16_384
"""Most entries of any batch.  First publication of an archive signs large batches, because the
reader's database is three times as fast with them."""

BATCH_BYTES: Final = 2 * 1024 * 1024
"""Largest signed batch as it travels.  Bounds what must be held in memory before one signature can
be judged."""

BATCH_ANSWER_BYTES: Final = 3 * 1024 * 1024
"""Batches put into one answer: at least one, and no more than fit into this beside it."""

ANSWER_BATCHES: Final = 4096
"""Most batches of one answer: lease renewals of two years at four a day."""

HEADER_BYTES: Final = 512
"""Largest signed header; one has about 270 bytes."""

HAVE_ORIGINS: Final = 1024
"""Most origins that one HAVE speaks of: the largest federation that this version is built for."""

HAVE_BYTES: Final = HAVE_ORIGINS * 96 + 512
"""Largest HAVE: one head of an origin has at most 96 bytes."""

HAVE_S: Final = 6 * 3600
"""A signed HAVE is renewed by hashes for so long, then signed anew: what a partner says of its own
journal can be shown to others for every quarter of a day."""

LEASE_S: Final = 72 * 3600
"""How long a head vouches for its journal.  Long enough for a weekend without a connection, short
enough that a withheld withdrawal is noticed."""

RENEW_S: Final = 6 * 3600
"""How often an idle origin signs a fresh head: eleven may be lost before a lease ends."""

LEASE_MOST_S: Final = 30 * 24 * 3600
"""No head may vouch for longer: past this everything of the origin is erased anyway."""

EXCHANGE_S: Final = 60
"""How often two connected partners tell each other what they hold, whether or not it changed: in a
hash if it did not.  The link needs no other sign of life."""

WANT_S: Final = 60
"""How long an answer to a WANT is waited for before it is asked again: 4 MiB take 32 s at 1 Mbit/s.
"""

BACK_OFF_MOST_S: Final = 600
"""Longest pause after a partner's answers failed to verify again and again: ten minutes after it
was mended it is followed again without anyone's doing, and till then it costs little."""

EXCHANGED_S: Final = 15 * 60
"""A partner is answered for so long after an exchange with it was completed: a dozen missed HAVEs
are bad luck, more than that is a partner that takes and does not give."""

EXCHANGE_NOW_S: Final = 10
"""How long a partner that asks for an exchange at once is kept waiting for its end."""

EPOCH_RECORD_BYTES: Final = 256
"""Largest record that begins an epoch; one has about 90 bytes."""

EPOCHS: Final = 64
"""Most epochs of one journal that one message tells: each is a recovery by hand, with the root key.
"""

FIRST_ANSWER_S: Final = 60
"""How long a started node waits for one partner to say what it holds of the node's journal before
it signs anything: a link comes up in seconds, and a node without a network must still serve."""

RECOVERY_S: Final = 600
"""How long a journal that was set back waits for every partner before it may begin a new epoch
without some of them: longer than a restart, or than the longest pause before a link is tried."""

STOPPED_S: Final = 3600
"""For so long a partner whose claim about our journal has stopped us stops us no second time:
one that lies keeps us from signing a minute an hour at most."""

MEMBERSHIP_S: Final = LEASE_S
"""How long an origin vouches for a partner: no longer than that does a facility that was removed
find others that pass the journal on to it.  A lease ends then too."""

MEMBERSHIP_RENEW_S: Final = 6 * 3600
"""How often a connected partner's membership is renewed: with the head that is signed as often."""

# -- search and retrieval over a link -------------------------------------------------------
EVALUATION_POINTS: Final = 8
"""Blinded elements of one tier in one search, always this many: the count tells nothing."""

EVALUATION_BYTES: Final = EVALUATION_POINTS * 32
"""One tier's elements: ristretto255 (RFC 9496) has 32 bytes an element."""

KEY_EPOCHS: Final = 3
"""Key epochs in which one search is answered: the present one, and two before it from which
patients still move to it.  Two times, then, partners can leave or come with narrower terms in the
time of one pass over all patients.  A third time, who comes waits; who leaves does not, and until
it has moved a patient who has not since the first is not found."""

STATEMENT_BYTES: Final = 64 * 1024
"""Largest payload of a signed statement other than a HAVE: a grant request, receipt or notice."""

GRANT_ANSWER_BYTES: Final = 4 * 1024 * 1024 - 1024
"""Largest answer to a grant request: it carries the manifest, some 50 bytes a chunk of 256 KiB."""

# -- manifests ------------------------------------------------------------------------------
MANIFEST_BYTES: Final = 32 * 1024 * 1024
"""Largest manifest: CONTAINER_ITEMS instances of about 250 bytes.  One above MESSAGE_BYTES does not
fit into a message; it travels as a range of the study."""

MANIFEST_PACKS: Final = 4_096
"""Most packs of one study.  A pack ends when the study settles, at a restart and after an error, so
that a study that grows every hour for half a year still fits."""

PACK_CHUNKS: Final = 2**20
"""Most chunks of one pack: more than a manifest of MANIFEST_BYTES can name, and few enough that a
bit for each of them (128 KiB a pack) is kept without a thought."""

CHUNK_PLAIN_BYTES: Final = 262_128
"""Plain bytes of a full chunk: with its 16-byte tag exactly 256 KiB, the piece in which AES-GCM and
aligned reads are both fast."""

CHUNK_TAG_BYTES: Final = 16
"""Tag of AES-256-GCM (NIST SP 800-38D)."""

INSTANCE_BYTES: Final = 2**36
"""Longest instance that a manifest may claim: what one array of CONTAINER_ITEMS chunk hashes can
describe, rounded up.  What a facility accepts is its own, smaller setting."""

# -- grants, receipts, notices --------------------------------------------------------------
GRANT_S: Final = 15 * 60
"""How long a grant lives unless the origin's operator says otherwise: a large study over a slow
line renews it a few times; a leaked one is soon worthless."""

GRANT_MOST_S: Final = 3600
"""No grant may live longer, whatever the origin's operator says."""

GRANT_BOX_BYTES: Final = MANIFEST_PACKS * 56 + 64
"""Largest box of pack keys: 53 bytes for each pack, and the overhead of sealing."""

MANIFEST_INLINE_BYTES: Final = 3 * 1024 * 1024
"""Longest manifest that comes with its grant; a longer one is fetched in ranges like a pack."""

RECEIPT_MISSING: Final = 512
"""Most missing instances that one receipt names; what lies beyond them is counted."""

NOTICE_STUDIES: Final = 64
"""Most studies of one notice: a notice is about one patient's recent visit, not an archive."""

# -- digests --------------------------------------------------------------------------------
DIGEST_SIZES: Final = (240, 368, 496, 1008)
"""Sizes to which the body of an entry is padded, so that its length tells little."""

DIGEST_BLOCK: Final = 1008
"""Beyond the largest of DIGEST_SIZES a body is a multiple of this."""

DIGEST_BYTES: Final = 8 * 1024
"""No body is larger; texts are cut, visibly, long before."""

DIGEST_MOST: Final = DIGEST_BYTES // DIGEST_BLOCK * DIGEST_BLOCK
"""The largest size to which a body is padded."""

SLOT_BLOCK: Final = 16
"""A patient has this many slots or a multiple of it: most have fewer match keys than one block."""

SLOTS_MOST: Final = 64
"""Most slots of one patient: twice what strong match keys need, so that weak ones have room."""

CARD_NAMES: Final = 8
CARD_IDENTIFIERS: Final = 16
DIGEST_LIST: Final = 16
"""Names and identifiers of a patient, modalities and body parts of a study: the first of them.
More belong to merged records and whole-body protocols, and are told by the study itself."""

NAME_TEXT_BYTES: Final = 256
"""One PN value as UTF-8: three groups of 64 characters (PS3.5 section 6.2), in any script."""

LONG_TEXT_BYTES: Final = 512
"""A study's description: LO allows 64 characters, real archives hold more."""

SHORT_TEXT_BYTES: Final = 128
"""Every other text: issuers, identifiers, accession numbers, code strings."""

CHAIN_MISSES: Final = 8
"""A searcher gives up a chain after this many empty positions in a row."""

# -- key records and pairing ----------------------------------------------------------------
CERTIFICATE_BYTES: Final = 2048
"""Largest TLS certificate (DER); a self-signed Ed25519 certificate has about 450 bytes."""

KEY_RECORD_BYTES: Final = 6144
"""Largest key record: certificate, two URLs, a name, a sealing key and NODE_KEYS of 46 bytes."""

NODE_KEYS: Final = 64
"""Most node keys that ever sign one journal: one every quarter for 16 years."""

URL_CHARACTERS: Final = 255
"""Longest address of a listener: a host name (RFC 1035 allows 253 characters) is nearly all."""

FACILITY_NAME_CHARACTERS: Final = 128
"""Longest name of a facility; longer ones do not fit into any list on a screen."""

INVITATION_URLS: Final = 4
"""Most addresses in one invitation; it must stay readable as a QR code."""

INVITATION_CHARACTERS: Final = 4096
"""Longest text that is looked at as an invitation, wrapped lines and blanks included."""

INVITATION_MOST_S: Final = 7 * 24 * 3600
"""No invitation may be valid for longer: its secret lies in somebody's mailbox."""

INVITATION_ATTEMPTS: Final = 16
"""How often a join may begin with one invitation: dropped connections are retried, and each new
attempt gives one more chance in 2^66 that the words of a man in the middle agree."""

PAIRING_BYTES: Final = 16 * 1024
"""Largest message of a pairing: it carries one key record and one side's terms."""

TERMS_ITEMS: Final = 64
"""Most modalities or purposes that one side's terms can name; DICOM defines about fifty."""

# -- links ----------------------------------------------------------------------------------
PIECE_BYTES: Final = 1024 * 1024
"""What of a pack is read, sent and handed on at once: enough to hash and write in one go, little
enough that other messages of a link need not wait long behind it."""

IN_FLIGHT: Final = 64
"""Requests that one side may have open on a link; the next one is answered "busy"."""

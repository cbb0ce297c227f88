import HoldfastProtocol
import NIOCore

@testable import HoldfastCore

/// An event of exactly `bytes` bytes on the wire, from 2 to 127.
func event(bytes: Int = 10) -> EncodedEvent {
    let event = EncodedEvent(ByteBuffer(repeating: 0x31, count: bytes - 2), isCounted: true)
    precondition(event.byteCount == bytes)
    return event
}

/// A moment in seconds of virtual time.
func at(_ seconds: Double) -> Instant { Instant(microseconds: 0) + .seconds(seconds) }

/// Whether the two hold the same events, not only equal ones.
func isSame(_ left: [EncodedEvent]?, _ right: ArraySlice<EncodedEvent>) -> Bool {
    left.map { $0.map(ObjectIdentifier.init) } == right.map(ObjectIdentifier.init)
}

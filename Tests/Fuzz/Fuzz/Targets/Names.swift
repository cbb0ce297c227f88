import HoldfastClient
import HoldfastProtocol
import NIOCore

@testable import HoldfastServer

extension FuzzTarget {
    static let names = FuzzTarget(
        name: "names",
        about:
            "short texts: positions, session names, times, addresses, numbers, keys; written again they are the same",
        maxBytes: 256
    ) { bytes in
        let text = bytes.text
        if let position = Position(text) {
            requireSame(Position(position.description), position, "a position, written and read")
        }
        if let name = SessionName(text) { requireSame(Array(name.revealed.utf8), Array(text.utf8), "a session's name") }
        if let handle = SessionName.Handle(text) {
            requireSame(Array(handle.description.utf8), Array(text.utf8), "a session's handle")
        }
        if let time = Timestamp.reformatted(text) { Self.check(time: time) }
        if let number = Double(decimal: text) { require(!number.isNaN, "a number that is none") }
        if WebSocketHandshake.isValid(key: text) { require(bytes.count == 24, "a key of another length") }
        requireSame(WebSocketHandshake.accept(key: text).utf8.count, 28, "the length of a key's answer")
        Self.checkClose(bytes)
        Self.checkAddresses(text)
    }

    private static func check(time: String) {
        require(time.utf8.count >= 19 && time.utf8.allSatisfy { $0 < 0x80 }, "a time such as \(time)")
        requireSame(Timestamp.reformatted(time), time, "a time, read again")
    }

    /// Reasons that are sent are cut to what fits, at a code point.
    private static func checkClose(_ bytes: [UInt8]) {
        let payload = WebSocketFrame.closePayload(.normal, reason: bytes.text)
        require(payload.readableBytes <= 125, "a close frame of \(payload.readableBytes) bytes")
        require(
            String(validating: payload.array.dropFirst(2), as: UTF8.self) != nil, "a reason cut inside a code point")
    }

    private static func checkAddresses(_ text: String) {
        if let url = ServiceURL(text) {
            requireSame(ServiceURL(url.text)?.text, url.text, "a service's address, read again")
            require(url.authorization?.utf8.allSatisfy { $0 > 0x1F && $0 < 0x7F } ?? true, "credentials in two lines")
        }
        do throws(GatewayURL.Invalid) {
            let url = try GatewayURL(text)
            requireSame(try? GatewayURL(url.description), url, "a gateway's address, read again")
            require((1...65535).contains(url.port), "port \(url.port)")
        } catch {
            require(!error.reason.isEmpty, "an error without a reason")
        }
    }
}

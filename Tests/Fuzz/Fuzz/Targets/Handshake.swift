import HoldfastProtocol
import NIOCore

@testable import HoldfastClient

extension FuzzTarget {
    static let handshake = FuzzTarget(
        name: "handshake",
        about:
            "a server's answer to the WebSocket handshake: however cut, bounds, what follows is kept, no wrong key is taken",
        maxBytes: 2048
    ) { bytes in
        let reading = Cut.requireSame(bytes, "a handshake's answer") { HandshakeReading($0) }
        if let error = reading.error { require(!error.reason.isEmpty, "an error without a reason") }
        guard let response = reading.response else { return }
        require(response.status == 101 || (200...999).contains(response.status), "status \(response.status)")
        require(bytes.count - reading.rest.count <= HandshakeResponseParser.limit, "a head over the limit")
        requireSame(Array(bytes.suffix(reading.rest.count)), reading.rest, "what follows the head")
        var random = Fixed()
        guard let url = try? GatewayURL("ws://h/socket") else { fatalError("no URL") }
        do throws(HandshakeError) {
            try ClientHandshake(url, using: &random).check(response)
            // Only the answer to our key makes a WebSocket.
            let accept = WebSocketHandshake.accept(key: WebSocketHandshake.key(high: 7, low: 7))
            require(bytes.text.contains(accept) && response.status == 101, "taken for a WebSocket")
        } catch {
            require(!error.reason.isEmpty, "an error without a reason")
        }
    }
}

/// The key is the same each time, so that a dictionary can hold its answer.
private struct Fixed: RandomNumberGenerator {
    func next() -> UInt64 { 7 }
}

private struct HandshakeReading: Equatable {
    var response: HandshakeResponse?
    var error: HandshakeError?
    var rest: [UInt8] = []

    init(_ pieces: [ByteBuffer]) {
        var parser = HandshakeResponseParser()
        for piece in pieces {
            parser.append(piece)
            guard self.response == nil, self.error == nil else { continue }
            do throws(HandshakeError) {
                self.response = try parser.next()
            } catch {
                self.error = error
            }
        }
        // What a parser that has failed keeps is not read.
        if self.error == nil { self.rest = parser.rest.array }
    }
}

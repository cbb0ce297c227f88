import HoldfastCore
import HoldfastProtocol
import HoldfastServer
import NIOCore
import NIOHTTP1

/// A WebSocket, as the Swift client opens one.
final class SimulatedWebSocketLine: SimulatedLine {
    let id: Int
    let transport = ClientTransport.websocket
    let openedAt: Int64
    private let surroundings: LineSurroundings
    private let pipe: Pipe
    private var parser = WebSocketParser(role: .client)
    private var isOpen = false
    private var isOver = false
    private var waiting: [ByteBuffer] = []

    init(id: Int, _ surroundings: LineSurroundings) {
        self.id = id
        self.surroundings = surroundings
        self.openedAt = surroundings.agenda.now
        self.pipe = surroundings.connect(nil)
    }

    private static let upgrade = HTTPRequestHead(
        version: .http1_1, method: .GET, uri: "/socket", headers: ["Upgrade": "websocket"]
    )

    func begin() {
        self.pipe.client = { [weak self] parcel in self?.received(parcel) }
        self.pipe.send(.toServer, .request(Self.upgrade, ByteBuffer()))
    }

    func send(_ text: ByteBuffer, number: UInt64?) {
        guard self.isOpen else { return }
        self.write(.text, text)
    }

    private func write(_ opcode: WebSocketOpcode, _ payload: ByteBuffer) {
        let mask = UInt32(truncatingIfNeeded: self.surroundings.dice.next())
        self.waiting.append(WebSocketFrame.masked(opcode, payload, mask: mask))
    }

    func flush() {
        guard !self.waiting.isEmpty else { return }
        var bytes = self.waiting.removeFirst()
        for more in self.waiting { bytes.writeImmutableBuffer(more) }
        self.waiting = []
        self.pipe.send(.toServer, .bytes(bytes))
    }

    /// A WebSocket listens by itself.
    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?) {}

    func letGo(code: CloseCode?) {
        guard !self.isOver else { return }
        self.isOver = true
        if self.isOpen {
            self.write(.close, code.map { WebSocketFrame.closePayload($0, reason: "") } ?? ByteBuffer())
            self.flush()
        }
        self.pipe.closeClient()
    }

    private func end(_ code: CloseCode, _ reason: String = "") {
        guard !self.isOver else { return }
        self.isOver = true
        self.pipe.closeClient()
        self.surroundings.tell(self.id, .closed(code, reason: reason, retryAfter: nil))
    }

    private func received(_ parcel: Parcel) {
        guard !self.isOver else { return }
        switch parcel {
        case .answer(101, _, _):
            self.isOpen = true
            self.surroundings.tell(self.id, .opened)
        case .answer(let status, _, _): self.end(CloseCode(rawValue: 1006), "answered \(status)")
        case .bytes(let bytes):
            self.parser.append(bytes)
            self.read()
        case .finish, .reset: self.end(CloseCode(rawValue: 1006), "connection lost")
        case .request, .stream, .end: break
        }
    }

    private func read() {
        do throws(WebSocketError) {
            while !self.isOver, let message = try self.parser.next() {
                switch message {
                case .text(let text): self.surroundings.tell(self.id, .received(text))
                case .binary, .pong: break
                case .ping(let payload):
                    self.write(.pong, payload)
                    self.flush()
                case .close(let code, let reason):
                    self.write(.close, code.map { WebSocketFrame.closePayload($0, reason: "") } ?? ByteBuffer())
                    self.flush()
                    self.end(code ?? CloseCode(rawValue: 1005), reason)
                }
            }
        } catch {
            self.end(.protocolError, error.reason)
        }
    }
}

import NIOCore

/// What a proxy that understands HTTP does to one connection: refuses upgrades, falls silent after them, buffers
/// responses, repeats requests.
///
/// Sans-IO. It sees every byte before the line does, and says in which order bytes go on. With no fault they go on as
/// they come, and are the same in any case.
struct Middlebox {
    struct Settings: Equatable {
        var upgrades = UpgradeFault.pass
        var bufferBytes = 0
        var duplicateRequests = false
    }

    enum Output: Equatable {
        case pass(ByteBuffer, Directions)
        /// Went no further than to the proxy.
        case swallow(bytes: Int, Directions)
        /// The connection is to be reset to both sides.
        case reset
        /// A request to be sent once more, on another connection.
        case duplicate(ByteBuffer, isHEAD: Bool)
        /// The bytes passed before were the last of the handshake.
        case upgraded
        case note(Note)
    }

    /// What a person wants to know of it.
    enum Note: Equatable {
        case upgradeRefused(UpgradeFault, target: String)
        case upgradePassed(target: String)
        case upgradeRefusedByServer(status: Int, target: String)
        case tooLargeToDuplicate(target: String)
        case notHTTP
    }

    /// Requests that wait for their response. With more the connection is not looked into any longer.
    static let pipelineLimit = 256
    /// Bytes of a request that is repeated.
    static let duplicateLimit = 65_536

    private struct Request: Equatable {
        var method: String
        var target: String
        var wantsUpgrade: Bool
    }

    private(set) var settings: Settings
    private var requests = HTTPFramer(role: .requests)
    private var responses = HTTPFramer(role: .responses)
    /// Those that the server has still to answer.
    private var unanswered: CircularBuffer<Request> = []

    /// A head that is kept back until it is known whether it asks for an upgrade.
    private var heldHead: ByteBuffer?
    /// A request, as far as it has come, for a duplicate.
    private var copy: ByteBuffer?
    private var copiedHead: HTTPHead?
    /// The body of a request that the server does not get.
    private var isSkipping = false
    /// To be given when the server has answered what came before.
    private var waitingAnswer: ByteBuffer?
    /// An upgrade hangs: nothing that the client says reaches the server any more.
    private var isHung = false
    /// A response, as far as it is kept back.
    private var buffered = ByteBuffer()

    /// Of a connection that was upgraded.
    private(set) var isUpgraded = false
    private var silence: Directions = []
    /// Data must never follow a hole.
    private var holes: Directions = []

    init(settings: Settings = Settings()) {
        self.settings = settings
    }

    /// Of responses that are buffered, and of heads.
    var heldBytes: Int { self.buffered.readableBytes + (self.heldHead?.readableBytes ?? 0) }

    /// Whether the client may be read.
    var mayReadClient: Bool { self.waitingAnswer == nil }

    // MARK: Inputs

    mutating func received(_ bytes: ByteBuffer, going direction: Directions) -> [Output] {
        direction == .toServer ? self.fromClient(bytes) : self.fromServer(bytes)
    }

    /// - Returns: what goes on before the end, and whether the end itself does.
    mutating func ended(_ direction: Directions) -> (outputs: [Output], isPassed: Bool) {
        guard !self.silence.contains(direction), !self.holes.contains(direction) else {
            self.holes.insert(direction)
            return ([], false)
        }
        return (direction == .toServer ? self.releaseHead() : self.releaseBuffered(), true)
    }

    mutating func settingsChanged(to settings: Settings) -> [Output] {
        if self.isUpgraded, settings.upgrades != self.settings.upgrades {
            // What was lost stays lost; what lost nothing goes on.
            self.silence = []
        }
        self.settings = settings
        var outputs: [Output] = []
        if !settings.upgrades.isRefused {
            outputs += self.releaseHead()
        }
        if self.buffered.readableBytes >= settings.bufferBytes {
            outputs += self.releaseBuffered()
        }
        return outputs
    }

    // MARK: From the client

    private mutating func fromClient(_ bytes: ByteBuffer) -> [Output] {
        var bytes = bytes
        var outputs: [Output] = []
        while let piece = self.requests.next(&bytes) {
            self.request(piece, &outputs)
        }
        return outputs
    }

    private mutating func request(_ piece: HTTPFramer.Piece, _ outputs: inout [Output]) {
        if piece.isTunnel { return self.tunnel(piece.bytes, .toServer, &outputs) }
        if self.isHung { return outputs.append(.swallow(bytes: piece.bytes.readableBytes, .toServer)) }
        if piece.startsMessage { self.startRequest() }
        if self.isSkipping {
            outputs.append(.swallow(bytes: piece.bytes.readableBytes, .toServer))
        } else if let head = piece.head {
            self.requestHead(head, piece.bytes, &outputs)
        } else if self.heldHead != nil {
            self.heldHead?.writeImmutableBuffer(piece.bytes)
        } else {
            outputs.append(.pass(piece.bytes, .toServer))
        }
        self.copy(piece, &outputs)
        if piece.endsMessage { self.isSkipping = false }
    }

    private mutating func startRequest() {
        self.heldHead = self.settings.upgrades.isRefused ? ByteBuffer() : nil
        self.copy = self.settings.duplicateRequests ? ByteBuffer() : nil
        self.copiedHead = nil
    }

    private mutating func requestHead(_ head: HTTPHead, _ bytes: ByteBuffer, _ outputs: inout [Output]) {
        if head.wantsUpgrade, let held = self.heldHead {
            self.heldHead = nil
            let size = held.readableBytes + bytes.readableBytes
            outputs.append(.swallow(bytes: size, .toServer))
            return self.refuse(head, &outputs)
        }
        outputs += self.releaseHead()
        outputs.append(.pass(bytes, .toServer))
        let request = Request(method: head.method, target: head.target, wantsUpgrade: head.wantsUpgrade)
        self.unanswered.append(request)
        if self.unanswered.count > Self.pipelineLimit { self.giveUp(&outputs) }
    }

    private mutating func refuse(_ head: HTTPHead, _ outputs: inout [Output]) {
        self.copy = nil
        self.isSkipping = true
        outputs.append(.note(.upgradeRefused(self.settings.upgrades, target: head.target)))
        switch self.settings.upgrades {
        case .answer(let status):
            let answer = HTTPAnswer.bytes(status: status)
            if self.unanswered.isEmpty {
                outputs.append(.pass(answer, .toClient))
            } else {
                self.waitingAnswer = answer
            }
        case .hang: self.isHung = true
        case .reset: outputs.append(.reset)
        case .pass, .silent, .onlyToServer, .onlyToClient: preconditionFailure("these pass")
        }
    }

    private mutating func releaseHead() -> [Output] {
        defer { self.heldHead = nil }
        guard let held = self.heldHead, held.readableBytes > 0 else { return [] }
        return [.pass(held, .toServer)]
    }

    private mutating func copy(_ piece: HTTPFramer.Piece, _ outputs: inout [Output]) {
        guard self.copy != nil else { return }
        if let head = piece.head {
            self.copiedHead = head
            // An upgrade cannot be had twice, and a client that waits for "100 Continue" gets it once.
            if head.wantsUpgrade || head.expectsContinue || head.method == "CONNECT" {
                self.copy = nil
                return
            }
        }
        self.copy?.writeImmutableBuffer(piece.bytes)
        guard let copy = self.copy, let head = self.copiedHead ?? piece.head else { return }
        if copy.readableBytes > Self.duplicateLimit {
            self.copy = nil
            outputs.append(.note(.tooLargeToDuplicate(target: head.target)))
        } else if piece.endsMessage {
            self.copy = nil
            outputs.append(.duplicate(copy, isHEAD: head.method == "HEAD"))
        }
    }

    // MARK: From the server

    private mutating func fromServer(_ bytes: ByteBuffer) -> [Output] {
        var bytes = bytes
        var outputs: [Output] = []
        while let piece = self.responses.next(&bytes, hasNoBody: self.unanswered.first?.method == "HEAD") {
            self.response(piece, &outputs)
        }
        return outputs
    }

    private mutating func response(_ piece: HTTPFramer.Piece, _ outputs: inout [Output]) {
        if piece.isTunnel || self.unanswered.isEmpty {
            // A server that speaks unasked does not speak HTTP.
            if !self.responses.isTunnel || !self.requests.isTunnel { self.giveUp(&outputs) }
            return self.tunnel(piece.bytes, .toClient, &outputs)
        }
        self.buffer(piece.bytes, &outputs)
        if let head = piece.head { self.responseHead(head, &outputs) }
        guard piece.endsMessage else { return }
        outputs += self.releaseBuffered()
        // It was an interim one, or the request has become a tunnel.
        guard self.answerIsWhole else { return }
        self.answerIsWhole = false
        self.unanswered.removeFirst()
        if self.unanswered.isEmpty, let answer = self.waitingAnswer {
            self.waitingAnswer = nil
            outputs.append(.pass(answer, .toClient))
        }
    }

    /// Whether the response that ends next is the last for its request.
    private var answerIsWhole = false

    private mutating func responseHead(_ head: HTTPHead, _ outputs: inout [Output]) {
        guard let request = self.unanswered.first, !head.isInterim else { return }
        self.answerIsWhole = true
        if head.status == 101 || (request.method == "CONNECT" && (200..<300).contains(head.status)) {
            outputs += self.releaseBuffered()
            self.answerIsWhole = false
            self.isUpgraded = true
            self.silence = self.settings.upgrades.silence
            outputs.append(.upgraded)
            outputs.append(.note(.upgradePassed(target: request.target)))
            self.becomeTunnel(&outputs)
        } else if request.wantsUpgrade {
            outputs.append(.note(.upgradeRefusedByServer(status: head.status, target: request.target)))
        }
    }

    private mutating func buffer(_ bytes: ByteBuffer, _ outputs: inout [Output]) {
        guard self.settings.bufferBytes > 0 || self.buffered.readableBytes > 0 else {
            return outputs.append(.pass(bytes, .toClient))
        }
        self.buffered.writeImmutableBuffer(bytes)
        if self.buffered.readableBytes >= self.settings.bufferBytes {
            outputs += self.releaseBuffered()
        }
    }

    private mutating func releaseBuffered() -> [Output] {
        guard self.buffered.readableBytes > 0 else { return [] }
        defer { self.buffered = ByteBuffer() }
        return [.pass(self.buffered, .toClient)]
    }

    // MARK: No HTTP, or none any more

    private mutating func giveUp(_ outputs: inout [Output]) {
        outputs.append(.note(.notHTTP))
        outputs += self.releaseBuffered()
        self.becomeTunnel(&outputs)
    }

    private mutating func becomeTunnel(_ outputs: inout [Output]) {
        self.requests.becomeTunnel()
        self.responses.becomeTunnel()
        self.unanswered.removeAll()
        self.copy = nil
        // The client may have gone on before the answer.
        for output in self.releaseHead() {
            guard case .pass(let bytes, _) = output else { continue }
            self.tunnel(bytes, .toServer, &outputs)
        }
    }

    private mutating func tunnel(_ bytes: ByteBuffer, _ direction: Directions, _ outputs: inout [Output]) {
        if direction == .toServer { outputs += self.releaseHead() }
        if self.silence.contains(direction) || self.holes.contains(direction) {
            self.holes.insert(direction)
            outputs.append(.swallow(bytes: bytes.readableBytes, direction))
        } else {
            outputs.append(.pass(bytes, direction))
        }
    }
}

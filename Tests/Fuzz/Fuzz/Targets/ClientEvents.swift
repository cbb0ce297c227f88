import NIOCore

@testable import HoldfastProtocol

extension FuzzTarget {
    static let clientEvents = FuzzTarget(
        name: "client-events",
        about: "events of clients, hello, subscription names: limits of every text, what is echoed stays byte for byte",
        maxBytes: 2048
    ) { bytes in
        let event: ClientEvent
        do throws(ProtocolError) {
            event = try ClientEvent(parsing: ByteBuffer(bytes: bytes))
        } catch {
            return Self.check(error)
        }
        require(event.name.text.unicodeScalars.count <= ProtocolLimits.eventName, "a long name of an event")
        requireSame(event.copied().object.members, event.object.members, "a copy")
        require(event.byteCount >= 64 + event.object.members.count * 64, "an event that takes less than its members")
        Self.checkMembers(event)
        Self.checkHello(event)
        if let text = event.object["subscription"]?.string { Self.checkSubscription(text) }
        if let since = event.object["since"], let position = Position(since) { Self.check(position) }
    }

    private static func checkMembers(_ event: ClientEvent) {
        do throws(ProtocolError) {
            if let id = try event.id() {
                requireSame(id, event.object["id"], "the id that is echoed")
                require(
                    (id.string?.unicodeScalars.count ?? id.raw.readableBytes) <= ProtocolLimits.eventID, "a long id")
            }
            if let received = try event.received() {
                requireSame(String(received), event.object["received"]?.text, "a count")
            }
        } catch {
            Self.check(error)
        }
        guard let data = event.pingData else { return }
        require(data.unicodeScalars.count <= ProtocolLimits.pingData, "a long ping")
        let whole = event.object["data"]?.string ?? ""
        require(whole.unicodeScalars.starts(with: data.unicodeScalars), "a ping that is answered with something else")
        let pong = try? JSONObject(parsing: ServerEvent.pong(data: data, received: nil))
        requireSame(pong?["data"]?.string.map { Array($0.utf8) }, Array(data.utf8), "the pong's data")
    }

    private static func checkHello(_ event: ClientEvent) {
        do throws(ProtocolError) {
            let hello = try ClientHello(event)
            require((hello.client ?? "").unicodeScalars.count <= 129, "a long name of a client")
            if let session = hello.resume?.session {
                requireSame(SessionName(session.revealed), session, "a session's name, written and read")
            }
        } catch {
            Self.check(error)
        }
    }

    private static func checkSubscription(_ text: String) {
        do throws(ProtocolError) {
            let name = try SubscriptionName(text, limit: 40)
            require(text.utf8.count <= 40, "a name over the limit")
            require(!name.service.isEmpty && !name.topic.isEmpty, "a name with an empty part")
            requireSame(Array("\(name.service).\(name.topic)".utf8), Array(text.utf8), "the parts of a name")
        } catch {
            Self.check(error)
            guard let exceeded = error.exceeded else { return }
            requireSame(exceeded, .init(limit: 40, actual: text.utf8.count), "the limit and the actual length")
        }
    }

    private static func check(_ position: Position) {
        let json = JSONWriter.object { $0.member("since", position) }
        let again = (try? JSONObject(parsing: json))?["since"].flatMap { Position($0) }
        requireSame(
            again.map { Array($0.description.utf8) }, Array(position.description.utf8), "a position, written again")
    }

    private static func check(_ error: ProtocolError) {
        require(!error.text.isEmpty && !error.code.isEmpty, "an error without words")
        let json = JSONWriter.object { $0.error(error, dialect: .native) }
        requireSame((try? JSONObject(parsing: json))?["code"]?.string, error.code, "an error's code, written and read")
    }
}

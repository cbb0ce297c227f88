import HTTPTypes
import HoldfastProtocol
import Hummingbird
import NIOCore

extension Gateway {
    /// Most sessions in one answer of `GET /api/sessions`.
    private static let listLimit = 1000

    func addSessionRoutes<Context: RequestContext>(to api: RouterGroup<Context>) {
        api.get("sessions") { _, _ in
            var reports: [SessionReport] = []
            var total = 0
            for shard in self.shards {
                let room = Self.listLimit - reports.count
                let (some, count) = try await shard.loop.submit {
                    (shard.sessions.values.prefix(room).map(\.report), shard.sessions.count)
                }.get()
                reports += some
                total += count
            }
            return Response.json { json in
                json.member("status", "ok")
                json.member("total", total)
                json.member(
                    "sessions",
                    array: { json in
                        for report in reports { json.element(object: { $0.summary(report) }) }
                    })
            }
        }
        api.get("sessions/:id") { _, context in
            let report = try await self.report(of: try Self.handle(context))
            return Response.json { json in
                json.member("status", "ok")
                json.member("session", object: { $0.detail(report) })
            }
        }
        api.post("sessions/:id/disconnect") { request, context in
            let handle = try Self.handle(context)
            let (code, reason) = try Self.disconnect(try await request.body.collect(upTo: 4096))
            guard let index = self.registry.shard(of: handle) else { throw APIError.unknownSession }
            let shard = self.shards[index]
            let found = try await shard.loop.submit { () -> Bool in
                guard let session = shard.sessions[handle] else { return false }
                session.flushNow()
                session.end(code, reason: reason)
                return true
            }.get()
            guard found else { throw APIError.unknownSession }
            return Response.json { $0.member("status", "ok") }
        }
    }

    private static func handle(_ context: some RequestContext) throws -> SessionName.Handle {
        guard let handle = SessionName.Handle(try context.parameters.require("id")) else {
            throw APIError.unknownSession
        }
        return handle
    }

    /// Reads `{"code":4003,"reason":"..."}`; both may be left out.
    private static func disconnect(_ body: ByteBuffer) throws -> (CloseCode, String) {
        guard body.readableBytes > 0 else { return (.normal, "disconnected by the server API") }
        let object: JSONObject
        do throws(JSONError) {
            object = try JSONObject(parsing: body)
        } catch {
            throw APIError(.badRequest, "The body must be a JSON object: \(error).", code: "bad_json")
        }
        var code = CloseCode.normal
        if let value = object["code"] {
            guard let number = value.unsignedInteger.flatMap(UInt16.init(exactly:)), CloseCode.isValidOnWire(number)
            else {
                throw APIError.badRequest(
                    "code must be a close code that may be sent, such as 4003, but is \(value.text).")
            }
            code = CloseCode(rawValue: number)
        }
        var reason = "disconnected by the server API"
        if let value = object["reason"], value.kind != .null {
            guard let text = value.string, text.utf8.count <= 123 else {
                throw APIError.badRequest("reason must be a string of at most 123 bytes.")
            }
            reason = text
        }
        return (code, reason)
    }

    /// A session that lives, or one that has ended not too long ago.
    private func report(of handle: SessionName.Handle) async throws -> SessionReport {
        for shard in self.shards {
            let found = try await shard.loop.submit {
                shard.sessions[handle]?.report ?? shard.ended.last { $0.handle == handle }
            }.get()
            if let found { return found }
        }
        throw APIError.unknownSession
    }
}

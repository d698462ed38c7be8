// What a new user writes first, with the types that openapi-typescript makes of the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const client = createClient<paths>({ baseUrl: "http://localhost:8000", headers: { authorization: "Bearer ry_…" } });

const { data, error } = await client.POST("/api/v1/agents/{agent}/run", {
  params: { path: { agent: "@example/writer" } },
  body: { query: "Summarise the report." },
});
if (error) throw new Error(error.code);
const id: string = data.task_id;

const task = await client.GET("/api/v1/tasks/{task_id}", { params: { path: { task_id: id }, query: { wait: 30 } } });
const status: components["schemas"]["Task"]["status"] | undefined = task.data?.status;

const preview = await client.POST("/api/v1/agents/{agent}/dry-run", { params: { path: { agent: "writer" } } });
const would: "start" | "queue" | "reject" | undefined = preview.data?.would;

// Fields with a default may be left out.
const hook: components["schemas"]["WebhookBody"] = { url: "https://example.com/hook" };
const schedule: components["schemas"]["ScheduleBody"] = { agent: "writer", schedule: 60, run: { query: "Hello." } };

// @ts-expect-error: a field that there is not
const typo: components["schemas"]["RunRequest"] = { qurey: "Hello." };

export { hook, id, schedule, status, typo, would };
